//! `render --format terraform`: the module itself, or where it was written.

use serde::Serialize;

use super::super::escape::plain;
use super::{Document, View, envelope};
use crate::model::image::TerraformReport;

impl Document for TerraformReport {
    fn text(&self, _: &View) -> String {
        match &self.written {
            Some(written) => written.iter().map(|path| format!("{}\n", plain(path))).collect(),
            None => self.text.clone(),
        }
    }

    fn json(&self) -> String {
        envelope(
            "terraform",
            &Body { cluster: self.cluster.as_str(), main_tf: &self.text, written: self.written.as_deref() },
        )
    }
}

#[derive(Serialize)]
struct Body<'a> {
    cluster: &'a str,
    main_tf: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<&'a [String]>,
}
