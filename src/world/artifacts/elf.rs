//! What a program's first bytes say about the platform that it runs on. Nothing is executed or loaded.

use crate::model::artifact::Arch;

/// Bytes of a 64-bit ELF header.
pub const HEADER: usize = 64;

const fn machine(arch: Arch) -> u16 {
    match arch {
        Arch::Amd64 => 62,
        Arch::Arm64 => 183,
    }
}

/// Is this the head of a 64-bit, little-endian Linux program for `arch`? Else: what it is instead.
pub fn check(head: &[u8], arch: Arch) -> Result<(), String> {
    if head.get(..4) != Some(b"\x7fELF") {
        return Err(not_elf(head).to_owned());
    }
    if head.len() < HEADER {
        return Err("a cut-off ELF file".to_owned());
    }
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if head[4] != 2 {
        return Err("a 32-bit ELF file".to_owned());
    }
    if head[5] != 1 {
        return Err("a big-endian ELF file".to_owned());
    }
    // 0 is what toolchains write for Linux, 3 is Linux by name; BSDs put their own number.
    if !matches!(head[7], 0 | 3) {
        return Err(format!("an ELF file for another system (ABI {})", head[7]));
    }
    if half(18) != machine(arch) {
        return Err(format!("an ELF file for {}", machine_name(half(18))));
    }
    // 2: executable, 3: position-independent executable.
    if !matches!(half(16), 2 | 3) {
        return Err("an ELF file, but no executable".to_owned());
    }
    Ok(())
}

fn machine_name(number: u16) -> String {
    match number {
        62 => "amd64".to_owned(),
        183 => "arm64".to_owned(),
        21 => "ppc64".to_owned(),
        22 => "s390x".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("machine number {other}"),
    }
}

fn not_elf(head: &[u8]) -> &'static str {
    match head {
        [] => "empty",
        [b'M', b'Z', ..] => "a Windows program",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS program",
        [b'#', b'!', ..] => "a script",
        _ => "no ELF file",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The head of a well-formed executable for `arch`.
    pub fn head(arch: Arch) -> Vec<u8> {
        let mut head = vec![0; HEADER];
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[16] = 2;
        head[18..20].copy_from_slice(&machine(arch).to_le_bytes());
        head
    }

    fn changed(at: usize, to: u8) -> Vec<u8> {
        let mut head = head(Arch::Amd64);
        head[at] = to;
        head
    }

    #[test]
    fn each_platform_is_known_and_told_apart() {
        assert_eq!(check(&head(Arch::Amd64), Arch::Amd64), Ok(()));
        assert_eq!(check(&head(Arch::Arm64), Arch::Arm64), Ok(()));
        assert_eq!(check(&head(Arch::Arm64), Arch::Amd64), Err("an ELF file for arm64".into()));
        assert_eq!(check(&head(Arch::Amd64), Arch::Arm64), Err("an ELF file for amd64".into()));
        assert_eq!(check(&changed(16, 3), Arch::Amd64), Ok(()));
    }

    #[test]
    fn what_is_no_linux_executable_is_named() {
        for (head, found) in [
            (changed(4, 1), "a 32-bit ELF file"),
            (changed(5, 2), "a big-endian ELF file"),
            (changed(7, 9), "an ELF file for another system (ABI 9)"),
            (changed(16, 1), "an ELF file, but no executable"),
            (changed(18, 243), "an ELF file for riscv64"),
            (changed(18, 1), "an ELF file for machine number 1"),
            (head(Arch::Amd64)[..20].to_vec(), "a cut-off ELF file"),
            (b"MZ\x90\0".to_vec(), "a Windows program"),
            (vec![0xcf, 0xfa, 0xed, 0xfe, 7], "a macOS program"),
            (b"#!/bin/sh\n".to_vec(), "a script"),
            (b"<html>".to_vec(), "no ELF file"),
            (vec![], "empty"),
        ] {
            assert_eq!(check(&head, Arch::Amd64), Err(found.to_owned()));
        }
    }
}
