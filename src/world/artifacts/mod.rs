//! The artifact cache: released programs, fetched or imported, checked, compressed once.
