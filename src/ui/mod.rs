//! What people and machines see: the one place that writes to standard output and standard error.
//!
//! Standard output is data (a table, or one JSON document); standard error is for people (progress,
//! warnings, hints, errors). Queries return structs and [`render`] makes text of them; the engine emits
//! events and [`progress`] shows them; [`output::Ui`] alone writes. No decision about hosts belongs here,
//! and nothing of `world`, `engine` or `core`.

pub mod confirm;
pub mod error;
pub mod escape;
pub mod output;
pub mod progress;
pub mod render;
pub mod style;
mod table;
pub mod words;

pub use confirm::{ConfirmError, Question};
pub use output::{ColorWhen, Format, Ui};
pub use progress::Reporter;
pub use render::{Document, View};
