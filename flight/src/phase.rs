//! Where a server stands in its life; what health checks, `/ready` and the `health` action report.

use schemas::{Epoch, LaneId};
use serde_json::{Value, json};

use crate::error::WireError;

/// Where a server stands in its life.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Taking the lane over, rebuilding the tail.
    Starting,
    /// It owns its lane and answers.
    Serving {
        /// Which lane.
        lane: LaneId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// It takes no new call.
    Draining,
    /// It can no longer do its work, and says why.
    Stopped(WireError),
}

impl Phase {
    /// True while appends and reads are answered.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self, Self::Serving { .. })
    }

    /// `{"status":"serving","version":"0.1.0","lane":0,"epoch":3}`; a stopped server adds `kind` and `message`.
    pub(crate) fn report(&self) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Starting => json!({"status": "starting", "version": version}),
            Self::Serving { lane, epoch } => {
                json!({"status": "serving", "version": version, "lane": lane, "epoch": epoch})
            }
            Self::Draining => json!({"status": "draining", "version": version}),
            Self::Stopped(error) => {
                let (kind, message) = (error.kind().name(), error.to_string());
                json!({"status": "stopped", "version": version, "kind": kind, "message": message})
            }
        }
    }
}
