//! One call's panic is one call's error: a defect met by one client must not be felt by another.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use schemas::ErrorKind;
use tonic::{Response, Status};

use crate::error::{Result, WireError};
use crate::metrics;

/// Runs the handler of a call: counts it, turns its error into a status and its panic into an internal one.
pub(crate) async fn answer<T>(
    call: &'static str,
    work: impl Future<Output = std::result::Result<T, Status>>,
) -> std::result::Result<Response<T>, Status> {
    ::metrics::counter!(metrics::CALLS, "call" => call).increment(1);
    let outcome = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic).into()));
    outcome.map(Response::new).inspect_err(|status| log(call, status))
}

/// Guards a stream that outlives its handler in the same way; it ends after the first error.
pub(crate) fn stream<T: Send + 'static>(
    call: &'static str,
    items: impl Stream<Item = std::result::Result<T, Status>> + Send + 'static,
) -> BoxStream<'static, std::result::Result<T, Status>> {
    let guarded = AssertUnwindSafe(items).catch_unwind();
    let flat = move |item: std::result::Result<std::result::Result<T, Status>, Box<dyn Any + Send>>| {
        item.unwrap_or_else(|panic| Err(panicked(panic).into())).inspect_err(|status| log(call, status))
    };
    guarded.map(flat).boxed()
}

/// Guards a spawned task's work.
pub(crate) async fn task<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic)))
}

thread_local! {
    /// True while this thread works on bytes that nobody vouches for.
    static UNTRUSTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs foreign code over bytes that nobody vouches for; `None` if it panics. Once [`keep_quiet`] was called nothing is printed then:
/// a client could fill the log with what is its own mistake.
pub(crate) fn untrusted<T>(work: impl FnOnce() -> T) -> Option<T> {
    UNTRUSTED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    UNTRUSTED.set(false);
    outcome.ok()
}

/// Makes this process print panics as before, those inside [`untrusted`] apart. Once a process, however often it is called.
pub(crate) fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !UNTRUSTED.get() {
                print(panic);
            }
        }));
    });
}

fn panicked(panic: Box<dyn Any + Send>) -> WireError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    WireError::new(ErrorKind::Internal, format!("a defect in Firn stopped this call alone: {text}"))
}

fn log(call: &'static str, status: &Status) {
    ::metrics::counter!(metrics::CALLS_FAILED, "call" => call, "code" => format!("{:?}", status.code())).increment(1);
    match status.code() {
        tonic::Code::Internal | tonic::Code::DataLoss => {
            tracing::error!(call, message = status.message(), "call failed")
        }
        _ => tracing::debug!(call, code = ?status.code(), message = status.message(), "call refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_its_own_calls_error() {
        let status = answer("test", async { if true { panic!("{} went wrong", "it") } else { Ok(()) } }).await;
        let status = status.expect_err("a status");
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(status.message().contains("it went wrong"), "{status}");

        let items = futures::stream::iter([1, 2, 3]).map(|item| if item == 2 { panic!("two") } else { Ok(item) });
        let items: Vec<_> = stream("test", items).collect().await;
        assert_eq!(items[0].as_ref().expect("one"), &1);
        assert_eq!(items[1].as_ref().expect_err("two").code(), tonic::Code::Internal);
        assert_eq!(items.len(), 2);

        assert_eq!(untrusted(|| 7), Some(7));
        assert_eq!(untrusted(|| if true { panic!("four") } else { 7 }), None);

        let error = task::<()>(async { panic!("three") }).await.expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
