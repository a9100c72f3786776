use std::collections::HashSet;

use super::*;

const KINDS: [ErrorKind; 9] = [
    ErrorKind::Invalid,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Fenced,
    ErrorKind::Overloaded,
    ErrorKind::Unavailable,
    ErrorKind::Indeterminate,
    ErrorKind::Corrupt,
    ErrorKind::Internal,
];

fn detail(status: &Status) -> serde_json::Value {
    let text = status.metadata().get(DETAIL_KEY).expect("a detail").to_str().expect("ascii");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_kind_has_a_code_of_its_own() {
    let codes: HashSet<_> = KINDS.map(|kind| code(kind) as i32).into_iter().collect();
    assert_eq!(codes.len(), KINDS.len());
    assert!(!codes.contains(&(Code::Ok as i32)) && !codes.contains(&(Code::Unimplemented as i32)));
}

#[test]
fn a_status_says_its_kind_to_machines() {
    for kind in KINDS {
        let status = Status::from(WireError::new(kind, "row 3: \"größe\"\nis 🙈"));
        assert_eq!(status.code(), code(kind));
        let detail = detail(&status);
        assert_eq!(detail["kind"], kind.name());
        assert_eq!(detail["retryable"], kind.is_retryable());
        assert_eq!(detail["message"], "row 3: \"größe\"\nis 🙈");
    }
}

#[test]
fn a_message_too_long_for_trailers_is_cut_at_a_character() {
    let status = Status::from(WireError::invalid("ö".repeat(limits::STATUS_BYTES_MAX)));
    assert!(status.message().len() <= limits::STATUS_BYTES_MAX + " …".len());
    assert!(status.message().ends_with('…'));
    assert_eq!(detail(&status)["kind"], "invalid");
}
