use std::collections::HashSet;

use arrow::array::{
    DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatchOptions, StringArray, StringViewArray,
    StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use arrow_flight::SchemaAsIpc;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use proptest::prelude::*;
use schemas::ErrorKind;

use super::*;

fn messages(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<FlightData> {
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("codec");
    let mut tracker = DictionaryTracker::new(false);
    let generator = IpcDataGenerator::default();
    let schema = SchemaAsIpc::new(batch.schema_ref(), &options);
    let mut messages = vec![FlightData::from(schema)];
    let schema = generator.schema_to_bytes_with_dictionary_tracker(batch.schema_ref(), &mut tracker, &options);
    messages[0].data_header = schema.ipc_message.into();
    let (dictionaries, data) =
        generator.encode(batch, &mut tracker, &options, &mut CompressionContext::default()).expect("encodes");
    messages.extend(dictionaries.into_iter().chain([data]).map(FlightData::from));
    messages
}

fn decode_all(messages: Vec<FlightData>) -> Result<Vec<RecordBatch>> {
    let mut decoder = Decoder::default();
    messages.into_iter().filter_map(|message| decoder.decode(message).transpose()).collect()
}

fn sample() -> RecordBatch {
    let rows = 50;
    let words: Vec<String> = (0..rows).map(|row| format!("word {}", row % 7)).collect();
    let dictionary: DictionaryArray<Int32Type> = words.iter().map(String::as_str).collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>((0..rows).map(|row| Some(vec![Some(row), None])));
    let inner = Arc::new(StringViewArray::from_iter_values(&words)) as ArrayRef;
    let structs =
        StructArray::new(Fields::from(vec![Field::new("view", DataType::Utf8View, false)]), vec![inner], None);
    RecordBatch::try_from_iter([
        ("seq", Arc::new(Int64Array::from_iter_values(0..i64::from(rows))) as ArrayRef),
        ("word", Arc::new(StringArray::from_iter_values(&words)) as ArrayRef),
        ("dictionary", Arc::new(dictionary) as ArrayRef),
        ("list", Arc::new(lists) as ArrayRef),
        ("struct", Arc::new(structs) as ArrayRef),
    ])
    .expect("a batch")
}

#[test]
fn a_batch_survives_the_wire_plain_and_compressed() {
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        assert_eq!(decode_all(messages(&sample(), compression)).expect("decodes"), [sample()]);
    }
}

#[test]
fn a_batch_is_in_memory_once_wherever_its_message_lies() {
    let numbers = Arc::new(Int64Array::from_iter_values(0..1_000)) as ArrayRef;
    let texts = Arc::new(StringArray::from_iter_values((0..1_000).map(|row| format!("text {row}")))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).expect("a batch");
    for offset in 0..ALIGNMENT {
        let mut parts = messages(&batch, None);
        let shifted = Bytes::from([&vec![0; offset][..], &parts[1].data_body].concat());
        parts[1].data_body = shifted.slice(offset..);
        let decoded = decode_all(parts).expect("decodes");
        assert_eq!(decoded, std::slice::from_ref(&batch));
        let data: Vec<_> = decoded[0].columns().iter().map(|column| column.to_data()).collect();
        let allocations: HashSet<_> = data.iter().flat_map(|data| data.buffers()).map(|b| b.data_ptr()).collect();
        assert_eq!(allocations.len(), 1, "at offset {offset}");
    }
}

#[test]
fn a_large_batch_of_full_lz4_blocks_is_not_mistaken_for_a_bomb() {
    let text = StringArray::from_iter_values((0..200_000).map(|row| format!("{row} {row} {row} {row} {row}")));
    let batch = RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).expect("a batch");
    assert_eq!(decode_all(messages(&batch, Some(CompressionType::LZ4_FRAME))).expect("decodes"), [batch]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_flipped_bits_make_the_decoder_panic_or_lie(
        flips in proptest::collection::vec(any::<(usize, usize)>(), 1..4),
        codec in 0..3,
    ) {
        let codec = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)][codec as usize];
        let mut messages = messages(&sample(), codec);
        for (message, bit) in flips {
            let count = messages.len();
            let message = &mut messages[message % count];
            let (header, body) = (message.data_header.len(), message.data_body.len());
            let bit = bit % ((header + body) * 8);
            let (part, at) = match (bit / 8).checked_sub(header) {
                None => (&mut message.data_header, bit / 8),
                Some(at) => (&mut message.data_body, at),
            };
            let mut bytes = part.to_vec();
            bytes[at] ^= 1 << (bit % 8);
            *part = bytes.into();
        }
        match decode_all(messages) {
            Ok(batches) => for batch in batches {
                for column in batch.columns() {
                    column.to_data().validate_full().expect("what is decoded is sound");
                }
            },
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
        }
    }

    #[test]
    fn no_truncation_makes_the_decoder_panic(at in any::<usize>(), header in any::<bool>()) {
        let mut messages = messages(&sample(), None);
        let last = messages.last_mut().expect("a batch");
        let part = if header { &mut last.data_header } else { &mut last.data_body };
        part.truncate(at % part.len());
        let _ = decode_all(messages);
    }
}

#[test]
fn a_stream_out_of_order_is_refused() {
    let parts = messages(&sample(), None);
    let no_schema = decode_all(parts[1..].to_vec()).expect_err("no schema");
    assert!(no_schema.to_string().contains("schema first"), "{no_schema}");
    let twice = decode_all(vec![parts[0].clone(), parts[0].clone()]).expect_err("two schemas");
    assert!(twice.to_string().contains("second schema"), "{twice}");
}

#[test]
fn rows_that_need_no_bytes_are_bounded_all_the_same() {
    let rows = limits::BATCH_ROWS_MAX + 1;
    let schema = Arc::new(Schema::new(vec![Field::new("nothing", DataType::Null, true)]));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch =
        RecordBatch::try_new_with_options(schema, vec![Arc::new(NullArray::new(rows))], &options).expect("a batch");
    let error = decode_all(messages(&batch, None)).expect_err("refused");
    assert!(error.to_string().contains("rows"), "{error}");
}

#[test]
fn a_dictionary_or_view_that_would_unfold_to_gigabytes_is_refused() {
    let long = "x".repeat(1 << 20);
    let keys = Int32Array::from(vec![0; 100_000]);
    let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec![long.as_str()])));
    let mut views = arrow::array::StringViewBuilder::new();
    let block = views.append_block(long.as_bytes().into());
    (0..100_000).for_each(|_| views.try_append_view(block, 0, 1 << 20).expect("a view"));
    for column in [Arc::new(dictionary) as ArrayRef, Arc::new(views.finish()) as ArrayRef] {
        let batch = RecordBatch::try_from_iter([("bomb", column)]).expect("a batch");
        let error = decode_all(messages(&batch, None)).expect_err("refused");
        assert!(error.to_string().contains("at most"), "{error}");
    }
}

#[test]
fn a_compressed_buffer_that_claims_or_holds_too_much_is_refused_unread() {
    let zeros = Int64Array::from(vec![0; 1 << 20]);
    let batch = RecordBatch::try_from_iter([("zeros", Arc::new(zeros) as ArrayRef)]).expect("a batch");
    for claim in [i64::MAX, 1 << 40, 17, -2] {
        let mut parts = messages(&batch, Some(CompressionType::LZ4_FRAME));
        let body = parts[1].data_body.to_vec();
        let frame = [0x04, 0x22, 0x4D, 0x18];
        let at = body.windows(4).rposition(|bytes| bytes == frame).expect("a frame") - 8;
        let mut body = body;
        body[at..at + 8].copy_from_slice(&claim.to_le_bytes());
        parts[1].data_body = body.into();
        decode_all(parts).expect_err("refused");
    }
}
