use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(2))
}

fn fence(key_prefix: Option<&str>, token: u64) -> Fence {
    Fence { key_prefix: key_prefix.map(str::to_owned), token }
}

fn set(fences: &mut Fences, fence: &Fence) -> bool {
    match fences.judge(&topic(), fence) {
        Ok(true) => fences.apply(topic(), fence).is_ok(),
        Ok(false) => true,
        Err(_) => false,
    }
}

#[test]
fn a_writer_is_fenced_by_a_higher_token_and_by_nothing_else() {
    let mut fences = Fences::default();
    assert!(set(&mut fences, &fence(None, 5)));
    assert!(set(&mut fences, &fence(None, 5)), "the same writer again");
    assert!(set(&mut fences, &fence(Some("o-"), 1)), "fences stand apart");
    assert!(set(&mut fences, &fence(None, 7)));
    let refused = fences.judge(&topic(), &fence(None, 6)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(refused.detail(), Some(&Detail::FenceFailed { fence: fence(None, 6), token: 7 }));
    assert_eq!(fences.token(&topic(), &Some("o-".into())), Some(1));
    fences.end_topic(&topic());
    assert_eq!(fences, Fences::default());
}

#[test]
fn a_topic_has_a_bounded_number_of_fences() {
    let mut fences = Fences::default();
    for number in 0..FENCES_MAX {
        assert!(set(&mut fences, &fence(Some(&number.to_string()), 1)));
    }
    assert_eq!(fences.judge(&topic(), &fence(None, 1)).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(set(&mut fences, &fence(Some("0"), 2)));
}

/// These bytes are in users' stores.
#[test]
fn the_bytes_of_format_version_1_stay_what_they_are() {
    let tenant = TenantId(Uuid::nil());
    let payload = |fence: &Fence| frame(tenant, topic(), fence).payload.bytes().to_vec();
    assert_eq!(payload(&fence(None, 258)), [2, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(payload(&fence(Some("o-"), 3)), [3, 0, 0, 0, 0, 0, 0, 0, 1, b'o', b'-']);
}

proptest! {
    #[test]
    fn what_is_written_is_read(key_prefix in prop::option::of(".{0,20}"), token in any::<u64>()) {
        let fence = Fence { key_prefix, token };
        prop_assert_eq!(read(&frame(TenantId(Uuid::nil()), topic(), &fence)).unwrap(), fence.clone());
        let mut fences = Fences::default();
        fences.apply(topic(), &fence).unwrap();
        let document = serde_json::to_string(&fences.document()).unwrap();
        prop_assert_eq!(Fences::from_document(serde_json::from_str(&document).unwrap()).unwrap(), fences);
    }

    #[test]
    fn bytes_that_are_no_fence_are_refused_or_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = read(&Frame::record(FrameKind::Fence, TenantId(Uuid::nil()), topic(), Payload::new(bytes)));
    }
}
