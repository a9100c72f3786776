//! The start-up probe: does this store keep X3 (swaps are linearizable) and X4 (create-if-absent is atomic)?
//!
//! Some stores that speak S3 check the condition, then write: they refuse politely a writer that comes late, and let several win that come
//! at once. So writers race, many times, with small bodies and with big ones, which keep such a gap open longer.

use bytes::Bytes;
use object_store::path::Path;
use schemas::ErrorKind;
use tokio::task::JoinSet;

use super::{Creation, RevisionTag, Store, Swap};
use crate::error::{CatalogError, Result};

/// Writers that race for one name or revision.
const WRITERS: usize = 8;
/// Races for each axiom.
const ROUNDS: usize = 20;
/// Bytes of a big body; every other round has them.
const BIG_BYTES: usize = 64 << 10;

/// Probes a store under a prefix of its own. Errors: `Invalid`, naming the axiom that does not hold.
pub(super) async fn run(store: &Store) -> Result<()> {
    let prefix = Path::from_iter(["probe", &store.inner.env.uuid().simple().to_string()]);
    let verdict = match probe_creates(store, &prefix).await {
        Ok(()) => probe_swaps(store, &prefix).await,
        failed => failed,
    };
    // What stays behind does no harm, and must not hide the verdict.
    if let Err(error) = store.remove_prefix(&prefix).await {
        tracing::warn!(%prefix, %error, "the probe's objects could not be removed");
    }
    verdict
}

async fn probe_creates(store: &Store, prefix: &Path) -> Result<()> {
    const AXIOM: &str = "X4 (create-if-absent is atomic)";
    for round in 0..ROUNDS {
        let slot = prefix.clone().join("slots").join(round.to_string());
        let answers = race(store, round, |store, body| {
            let slot = slot.clone();
            async move { store.create_segment(&slot, body).await }
        });
        let claims: Vec<_> = answers.await.map_err(|error| unanswered(AXIOM, error))?;
        let held = store.read_segment(&slot).await?.unwrap_or_default();
        let won = |creation: &Creation| *creation == Creation::Mine;
        judge(claims.iter().map(|(body, creation)| (body, won(creation))), &held)
            .map_err(|found| broken(store, AXIOM, round, &found))?;
        // The losers, and one that comes late, are shown the winner's.
        let late = store.create_segment(&slot, body(store, round)).await?;
        let shown = |creation: &Creation| matches!(creation, Creation::Others(bytes) if *bytes == held);
        if !claims.iter().map(|(_, creation)| creation).filter(|creation| !won(creation)).chain([&late]).all(shown) {
            return Err(broken(store, AXIOM, round, "a writer that lost was shown other bytes than the winner's"));
        }
    }
    Ok(())
}

async fn probe_swaps(store: &Store, prefix: &Path) -> Result<()> {
    const AXIOM: &str = "X3 (compare-and-swap on one object is linearizable)";
    let register = prefix.clone().join("register.json");
    let mut expected: Option<RevisionTag> = None;
    for round in 0..ROUNDS {
        let answers = race(store, round, |store, body| {
            let (register, expected) = (register.clone(), expected.clone());
            async move { store.swap_register(&register, expected.as_ref(), body).await }
        });
        let claims: Vec<_> = answers.await.map_err(|error| unanswered(AXIOM, error))?;
        let held = store.read_register(&register).await?.ok_or_else(|| broken(store, AXIOM, round, "nobody won"))?;
        let won = |swap: &Swap| matches!(swap, Swap::Won(tag) if *tag == held.tag);
        let claimed = |swap: &Swap| matches!(swap, Swap::Won(_));
        judge(claims.iter().map(|(body, swap)| (body, claimed(swap))), &held.content)
            .map_err(|found| broken(store, AXIOM, round, &found))?;
        if claims.iter().filter(|(_, swap)| won(swap)).count() != 1 {
            return Err(broken(store, AXIOM, round, "the winner was told another revision than the one that is there"));
        }
        if store.swap_register(&register, expected.as_ref(), body(store, round)).await? != Swap::Lost {
            return Err(broken(store, AXIOM, round, "a writer that presented an old revision won"));
        }
        expected = Some(held.tag);
    }
    Ok(())
}

/// All writers at once, each with a body of its own; the bodies with the answers.
async fn race<T, F>(store: &Store, round: usize, write: impl Fn(Store, Bytes) -> F) -> Result<Vec<(Bytes, T)>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let body = body(store, round);
        let answer = write(store.clone(), body.clone());
        writers.spawn(async move { answer.await.map(|answer| (body, answer)) });
    }
    writers.join_all().await.into_iter().collect()
}

/// A JSON string that no other writer has.
fn body(store: &Store, round: usize) -> Bytes {
    let padding = if round.is_multiple_of(2) { 0 } else { BIG_BYTES };
    format!("\"{}{}\"", store.inner.env.uuid(), " ".repeat(padding)).into()
}

/// Exactly one of the writers may believe that it won, and what is there must be its body.
fn judge<'a>(claims: impl Iterator<Item = (&'a Bytes, bool)>, held: &Bytes) -> std::result::Result<(), String> {
    let winners: Vec<_> = claims.filter(|(_, won)| *won).map(|(body, _)| body).collect();
    match winners[..] {
        [winner] if winner == held => Ok(()),
        [_] => Err("one writer won, but another's bytes are there".into()),
        _ => Err(format!("{} of {WRITERS} writers that raced believe that they won", winners.len())),
    }
}

fn broken(store: &Store, axiom: &str, round: usize, found: &str) -> CatalogError {
    let place = store.uri(&Path::ROOT);
    let message = format!(
        "store {place} breaks {axiom}: expected one winner, found in round {round}: {found}; events would be lost there: use another store"
    );
    CatalogError::new(ErrorKind::Invalid, message)
}

fn unanswered(axiom: &str, error: CatalogError) -> CatalogError {
    let kind = if error.kind() == ErrorKind::Invalid { ErrorKind::Invalid } else { ErrorKind::Unavailable };
    CatalogError::new(kind, format!("the store gave no definite answer when {axiom} was probed")).caused_by(error)
}
