//! Helm charts: what of `Chart.yaml` the artifact needs, as `helm push` writes it.

use serde_json::Value;

/// Media type of a chart's config: `Chart.yaml` as JSON.
pub const CONFIG_TYPE: &str = "application/vnd.cncf.helm.config.v1+json";
/// Media type of a chart's archive.
pub const CONTENT_TYPE: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
/// No `Chart.yaml` is longer.
pub const MAX_CHART_FILE: u64 = 1024 * 1024;

/// What of `Chart.yaml` is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// `name`.
    pub name: String,
    /// `version`.
    pub version: String,
    /// All of it.
    pub document: Value,
}

/// Reads `Chart.yaml`.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse(text: &str) -> Result<Chart, String> {
    let document: Value =
        serde_saphyr::from_str(text).map_err(|error| format!("Chart.yaml: {}", error.without_snippet()))?;
    let field = |key: &str| match document.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Number(number)) => {
            Err(format!("Chart.yaml: `{key}: {number}` is a number; write it in quotes"))
        }
        _ => Err(format!("Chart.yaml has no `{key}`")),
    };
    let chart = Chart { name: field("name")?, version: field("version")?, document: document.clone() };
    if field("apiVersion")? != "v2" {
        return Err("Chart.yaml: only charts of `apiVersion: v2` are pushed to registries".to_owned());
    }
    Ok(chart)
}
