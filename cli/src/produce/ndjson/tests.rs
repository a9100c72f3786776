use schemas::{LaneId, TenantId, TopicId, TopicSpec};
use serde_json::json;

use super::*;

fn lines(text: &str, rows_max: usize) -> Vec<Piece> {
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": "t",
        "schema": {"type": "record", "name": "t", "fields": [
            {"name": "k", "type": "string"},
            {"name": "n", "type": ["null", "int"]},
        ]},
        "key": ["k"],
    }))
    .expect("a spec");
    let nil = Default::default();
    let def = spec.resolve(TopicId(nil), TenantId(nil), LaneId(0)).expect("resolves");
    let text: Box<dyn BufRead + Send> = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
    Lines::new(text, &def, rows_max).collect::<Result<_, _>>().expect("reads")
}

#[test]
fn rows_are_numbered_through_the_whole_text_and_blank_lines_are_not_rows() {
    let pieces = lines("{\"k\":\"a\"}\n\n{\"k\":\"b\",\"n\":1}\r\n{\"k\":null}", 2);
    let rows: Vec<_> = pieces.iter().map(|piece| piece.rows.clone()).collect();
    assert_eq!(rows, [vec![0, 1], vec![2]]);
    assert!(pieces.iter().all(|piece| piece.unreadable.is_empty()));
}

#[test]
fn a_bad_line_is_refused_by_its_number_and_the_others_are_kept() {
    let pieces = lines(
        "{\"k\":\"a\"}\n{\"k\":\nx\n{\"k\":\"b\",\"n\":\"x\"}\n{\"k\":\"c\",\"what\":1}\n{\"k\":\"d\"}\n[1]\n",
        100,
    );
    let [piece] = pieces.as_slice() else { panic!("one piece") };
    assert_eq!(piece.rows, [0, 5]);
    assert_eq!(piece.unreadable.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    assert!(piece.unreadable[3].reason.contains("what"), "{}", piece.unreadable[3].reason);
}
