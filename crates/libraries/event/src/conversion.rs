use serde::{Deserialize, Serialize};

use crate::Text;

/// The conversion that a click leads to, by the operator's rules about URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversion<'a> {
    /// The name of the rule.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// The value from a parameter of the URL, in the operator's unit; at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}
