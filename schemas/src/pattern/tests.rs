use proptest::prelude::*;

use super::*;

fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let parsed = Pattern::parse(pattern).expect(pattern);
    for path in yes {
        assert!(parsed.matches(path), "{pattern} should match {path}");
    }
    for path in no {
        assert!(!parsed.matches(path), "{pattern} should not match {path}");
    }
}

#[test]
fn a_star_is_one_level_and_an_arrow_is_all_that_follow() {
    check("kafka/core/>", &["kafka/core/scala", "kafka/core/a/b"], &["kafka/core", "kafka/clients/java", "kafka"]);
    check("kafka/*/java", &["kafka/core/java", "kafka/-/java"], &["kafka/core/scala", "kafka/java", "kafka/a/b/java"]);
    check("kafka", &["kafka"], &["kafka/core", "kafkax"]);
    check(">", &["kafka", "kafka/core"], &[]);
    check("*/eu/>", &["orders/eu/x"], &["orders/us/x", "orders/eu"]);
}

#[test]
fn a_pattern_that_cannot_be_is_refused() {
    for bad in ["", "/", "a//b", "a/", ">/a", "a*", "a/b>", "!a", &"a/".repeat(17), &"a".repeat(2000)] {
        assert!(Pattern::parse(bad).is_err(), "{bad:?} passed");
    }
}

#[test]
fn what_can_be_pruned_is_known() {
    let pattern = Pattern::parse("kafka/core/*/x").expect("well formed");
    assert_eq!((pattern.topic(), pattern.literal_prefix().as_str()), (Some("kafka"), "kafka/core"));
    let pattern = Pattern::parse("*/core").expect("well formed");
    assert_eq!((pattern.topic(), pattern.literal_prefix().as_str()), (None, ""));
}

/// The definition, written the slow and obvious way.
fn obviously(levels: &[&str], parts: &[&str]) -> bool {
    match (levels, parts) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", levels @ ..], [_, parts @ ..]) => obviously(levels, parts),
        ([level, levels @ ..], [part, parts @ ..]) => level == part && obviously(levels, parts),
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_is_what_the_definition_says(
        mut levels in proptest::collection::vec("a|b|\\*", 1..5),
        rest in any::<bool>(),
        parts in proptest::collection::vec("a|b|-", 1..6),
    ) {
        if rest {
            levels.push(">".into());
        }
        let (pattern, path) = (levels.join("/"), parts.join("/"));
        let parsed = Pattern::parse(&pattern).expect("well formed");
        prop_assert_eq!(parsed.to_string(), pattern);
        let levels: Vec<_> = levels.iter().map(String::as_str).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        prop_assert_eq!(parsed.matches(&path), obviously(&levels, &parts));
    }
}
