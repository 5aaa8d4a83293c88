//! The users that a login tries one after the other, and what became of each. OpenSSH's server ends a
//! connection on which the user changes, so each has one of its own.

use std::collections::VecDeque;

/// Of those that a host names itself, only so many are believed.
const MAX: usize = 16;

pub(super) struct Candidates {
    left: VecDeque<String>,
    /// Who was refused, and why.
    refused: Vec<(String, String)>,
}

impl Candidates {
    pub fn new(users: Vec<String>) -> Self {
        Self { left: users.into(), refused: Vec::new() }
    }

    /// Whose turn it is; `None` when all were refused.
    pub fn current(&self) -> Option<&str> {
        self.left.front().map(String::as_str)
    }

    /// The current one was refused. `instead` is who the host wants rather: the next, unless they were refused.
    pub fn refuse(&mut self, why: String, instead: Option<String>) {
        let Some(user) = self.left.pop_front() else { return };
        self.refused.push((user, why));
        if let Some(instead) = instead
            && self.refused.len() < MAX
            && !self.refused.iter().any(|(user, _)| *user == instead)
        {
            self.left.retain(|user| *user != instead);
            self.left.push_front(instead);
        }
    }

    /// All who were refused, and why each was.
    pub fn report(&self) -> (String, String) {
        let users: Vec<&str> = self.refused.iter().map(|(user, _)| user.as_str()).collect();
        let detail = match &self.refused[..] {
            [(_, why)] => why.clone(),
            several => several.iter().map(|(user, why)| format!("{user}: {why}")).collect::<Vec<_>>().join("; "),
        };
        (users.join(", "), detail)
    }
}

/// An image's root may be let in only to be told `Please login as the user "ec2-user" rather than the user
/// "root".` (cloud-init's `disable_root`). Who it is.
pub(super) fn wanted_instead(output: &str) -> Option<&str> {
    output.split_once("Please login as the user \"")?.1.split_once('"').map(|(user, _)| user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(users: &[&str]) -> Candidates {
        Candidates::new(users.iter().map(|user| (*user).to_owned()).collect())
    }

    #[test]
    fn each_has_one_turn() {
        let mut users = candidates(&["root", "admin", "ec2-user"]);
        users.refuse("the host wants ec2-user".to_owned(), Some("ec2-user".to_owned()));
        assert_eq!(users.current(), Some("ec2-user"));
        users.refuse("no key".to_owned(), Some("root".to_owned()));
        assert_eq!(users.current(), Some("admin"));
        users.refuse("no key".to_owned(), None);
        assert_eq!(users.current(), None);
        assert_eq!(
            users.report(),
            (
                "root, ec2-user, admin".to_owned(),
                "root: the host wants ec2-user; ec2-user: no key; admin: no key".to_owned()
            )
        );
        let mut one = candidates(&["root"]);
        one.refuse("no key".to_owned(), None);
        assert_eq!(one.report(), ("root".to_owned(), "no key".to_owned()));
    }

    #[test]
    fn a_host_that_names_ever_more_users_comes_to_an_end() {
        let mut users = candidates(&["root"]);
        for n in 0.. {
            assert!(n < 100, "it goes on");
            if users.current().is_none() {
                break;
            }
            users.refuse(String::new(), Some(format!("user{n}")));
        }
    }

    #[test]
    fn whom_an_image_wants() {
        let said = "Please login as the user \"ec2-user\" rather than the user \"root\".\n\n";
        assert_eq!(wanted_instead(said), Some("ec2-user"));
        assert_eq!(wanted_instead("x\r\nPlease login as the user \"ubuntu\" rather"), Some("ubuntu"));
        for said in ["", "uid=0(root)", "Please login as the user \"ec2"] {
            assert_eq!(wanted_instead(said), None);
        }
    }
}
