//! Pages decompressed ahead of the Parquet reader.
//!
//! The reader makes a compression context for every column of every row group that it opens, and a look-up opens many to read a page of each: making
//! the contexts would cost more than decompressing. So pages are decompressed here, by one context a thread, and the reader is told that the
//! columns are not compressed: it takes each page as its header followed by the plain body.

use std::cell::RefCell;
use std::ops::Range;

use ::parquet::basic::Compression;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataBuilder};
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::{Buf, Bytes};

use super::sparse::Sparse;

/// Largest page that is decompressed here, bytes. Those of Firn's own files have a thousand rows.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// Thrift's compact form of "the next field, a 32-bit integer".
const NEXT_FIELD_I32: u8 = 0x15;
/// Page types whose body is compressed as a whole: data pages of version 1, and dictionaries.
const WHOLE_BODY_TYPES: [u32; 2] = [0, 2];

thread_local! {
    static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The metadata of a file as the reader must see it to take opened pages. `None` if the file is not one whose pages can be opened here.
pub(super) fn as_uncompressed(metadata: &ParquetMetaData) -> Option<ParquetMetaData> {
    let mut groups = Vec::with_capacity(metadata.num_row_groups());
    for group in metadata.row_groups() {
        let plain = group.columns().iter().map(|chunk| match chunk.compression() {
            Compression::ZSTD(_) => {
                let plain = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
                plain.clear_statistics().build().ok()
            }
            _ => None,
        });
        let plain = plain.collect::<Option<Vec<_>>>()?;
        groups.push(group.clone().into_builder().set_column_metadata(plain).build().ok()?);
    }
    let offsets = metadata.offset_index()?.clone();
    let builder = ParquetMetaDataBuilder::new(metadata.file_metadata().clone());
    Some(builder.set_row_groups(groups).set_offset_index(Some(offsets)).build())
}

/// Opened pages by their offset in the file.
#[derive(Debug)]
pub(super) struct OpenedPages {
    size: u64,
    pages: Vec<(u64, Bytes)>,
}

impl OpenedPages {
    /// Opens these pages of `sparse`. `None` if one is of a kind that the reader must open itself, or damaged, which the reader will then say.
    pub(super) fn open(sparse: &Sparse, mut pages: Vec<Range<u64>>) -> Option<Self> {
        pages.sort_unstable_by_key(|page| page.start);
        let open = |page: Range<u64>| {
            let whole = sparse.get_bytes(page.start, (page.end - page.start) as usize).ok()?;
            Some((page.start, open_page(&whole)?))
        };
        Some(Self { size: sparse.len(), pages: pages.into_iter().map(open).collect::<Option<_>>()? })
    }

    fn page(&self, start: u64) -> Result<Bytes, ParquetError> {
        match self.pages.binary_search_by_key(&start, |(at, _)| *at) {
            Ok(found) => Ok(self.pages[found].1.clone()),
            Err(_) => Err(ParquetError::General(format!("no page at byte {start} was fetched"))),
        }
    }
}

impl Length for OpenedPages {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for OpenedPages {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.page(start)?.reader())
    }

    /// The whole opened page, which is longer than the one in the file: the reader goes by the header.
    fn get_bytes(&self, start: u64, _length: usize) -> Result<Bytes, ParquetError> {
        self.page(start)
    }
}

/// The page's header, followed by its decompressed body.
fn open_page(page: &[u8]) -> Option<Bytes> {
    let header = header(page)?;
    let (head, body) = page.split_at(header.length);
    let mut opened = vec![0; header.length + header.body_bytes];
    opened[..header.length].copy_from_slice(head);
    let written = match header.body_bytes {
        // A page of nothing but nulls may have no body at all.
        0 => 0,
        _ => decompress(body, &mut opened[header.length..])?,
    };
    (written == header.body_bytes).then(|| Bytes::from(opened))
}

fn decompress(body: &[u8], into: &mut [u8]) -> Option<usize> {
    CONTEXT.with_borrow_mut(|context| {
        if context.is_none() {
            *context = zstd::bulk::Decompressor::new().ok();
        }
        context.as_mut()?.decompress_to_buffer(body, into).ok()
    })
}

/// What must be known of a page's header.
struct Header {
    /// Its own bytes.
    length: usize,
    /// Bytes of the decompressed body.
    body_bytes: usize,
}

/// Reads the first three fields of a page header (type, uncompressed size, compressed size: Parquet's `PageHeader` in Thrift's compact protocol). The
/// header is what is left of the page before its compressed body.
fn header(page: &[u8]) -> Option<Header> {
    let mut rest = page;
    let kind = next_i32(&mut rest)?;
    let body_bytes = next_i32(&mut rest)? as usize;
    let compressed = next_i32(&mut rest)? as usize;
    let length = page.len().checked_sub(compressed)?;
    let whole = WHOLE_BODY_TYPES.contains(&kind) && body_bytes <= PAGE_BYTES_MAX && length > page.len() - rest.len();
    whole.then_some(Header { length, body_bytes })
}

/// A field that follows the one before it, and holds a 32-bit integer that is not negative.
fn next_i32(bytes: &mut &[u8]) -> Option<u32> {
    let (NEXT_FIELD_I32, mut rest) = bytes.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let mut zigzag = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            *bytes = rest;
            return if zigzag & 1 == 0 { u32::try_from(zigzag >> 1).ok() } else { None };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_that_are_no_page_are_left_to_the_reader(page in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = open_page(&page);
            let mut like = vec![NEXT_FIELD_I32, 0, NEXT_FIELD_I32];
            like.extend(page);
            let _ = open_page(&like);
        }

        #[test]
        fn an_opened_page_is_its_header_and_its_plain_body(body in prop::collection::vec(any::<u8>(), 1..2000)) {
            let compressed = zstd::bulk::compress(&body, 1).unwrap();
            let mut page = vec![NEXT_FIELD_I32, 0];
            for size in [body.len(), compressed.len()] {
                page.push(NEXT_FIELD_I32);
                let mut zigzag = (size as u32) << 1;
                while zigzag >= 0x80 {
                    page.push(zigzag as u8 | 0x80);
                    zigzag >>= 7;
                }
                page.push(zigzag as u8);
            }
            page.push(0);
            let head = page.clone();
            page.extend(&compressed);
            prop_assert_eq!(open_page(&page).unwrap().to_vec(), [head, body].concat());
        }
    }
}
