use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn path() -> Path {
    let tenant = TenantName::new("default").expect("a name");
    Pointer::path(&tenant, &TopicName::new("orders").expect("a name"))
}

#[test]
fn the_register_lies_under_the_tenants_name() {
    assert_eq!(path().as_ref(), "tenants/default/tables/orders.json");
}

#[test]
fn the_format_never_changes() {
    let pointer = Pointer::next(None, TopicId(Uuid::from_u128(7)), Some("file:///a/b.json".into()), "n".into());
    let text = r#"{"format":1,"version":1,"topic":"00000000-0000-0000-0000-000000000007","metadata":"file:///a/b.json","nonce":"n"}"#;
    assert_eq!(pointer.encode(), text);
}

#[test]
fn what_a_newer_version_added_is_kept() {
    let text = br#"{"format":1,"version":4,"topic":"00000000-0000-0000-0000-000000000007","metadata":null,"nonce":"n","later":[1]}"#;
    let read = Pointer::decode(text, &path()).expect("unknown fields are no fault");
    let next = Pointer::next(Some(&read), read.topic, None, "m".into());
    assert_eq!(next.version, 5);
    assert!(String::from_utf8_lossy(&next.encode()).contains(r#""later":[1]"#));
}

#[test]
fn what_is_no_pointer_is_corrupt_and_named() {
    let error = Pointer::decode(b"{}", &path()).expect_err("not a pointer");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("tenants/default/tables/orders.json"), "{error}");
}

proptest! {
    #[test]
    fn it_reads_back(id: u128, metadata: Option<String>, nonce: String) {
        let pointer = Pointer::next(None, TopicId(Uuid::from_u128(id)), metadata, nonce);
        prop_assert_eq!(Pointer::decode(&pointer.encode(), &path()).unwrap(), pointer);
    }
}
