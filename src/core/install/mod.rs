//! The installer's wire format (being written).
