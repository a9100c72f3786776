//! placeholder
/// A topic's path template.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate(String);
impl From<PathTemplate> for String {
    fn from(t: PathTemplate) -> Self {
        t.0
    }
}
impl TryFrom<String> for PathTemplate {
    type Error = crate::SchemaError;
    fn try_from(t: String) -> Result<Self, crate::SchemaError> {
        Ok(Self(t))
    }
}
