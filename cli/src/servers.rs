//! The servers of one store: those that were named, and those that they told of since, so that a command outlives the one that it began with.

use std::time::Duration;

use schemas::TopicName;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::client::Client;
use crate::config::ClientConfig;
use crate::exit::Failure;
use crate::retry::Retry;

/// How long a server may take to say that it is there. One that is stopped accepts connections, and answers nothing.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Servers that are remembered beside those that were named.
const TOLD_MAX: usize = 64;

/// The servers of one store.
#[derive(Debug)]
pub(crate) struct Servers {
    /// By the settings.
    named: Vec<String>,
    /// By the server that was asked last.
    told: Vec<String>,
    /// The one that a command is connected to, by way of which it may have found the owner.
    used: Option<String>,
    /// To be tried before all others.
    preferred: Option<String>,
    /// To be tried after all others.
    passed_over: Option<String>,
}

impl Servers {
    /// Those that the settings name.
    pub(crate) fn named(config: &ClientConfig) -> Self {
        let named = config.server.split(',').map(str::to_owned).collect();
        Self { named, told: Vec::new(), used: None, preferred: None, passed_over: None }
    }

    /// Connects to the first that answers, and learns of the others from it. Errors: usage for an address that is none, away if nobody answers.
    pub(crate) async fn connect(&mut self) -> Result<Client, Failure> {
        let candidates = self.candidates();
        self.preferred = None;
        for server in candidates {
            let client = match Client::to(&server).await {
                Ok(Some(client)) => client,
                Err(usage) if self.named.contains(&server) => return Err(usage),
                Ok(None) | Err(_) => continue,
            };
            if self.learn(&client).await {
                self.used = Some(server);
                return Ok(client);
            }
        }
        Err(Failure::away(format!(
            "no server answers at {}; start one with `firn serve --data DIR`, or name another with --server",
            self.candidates().join(",")
        )))
    }

    /// A client of the server that owns the topic, or of one that knows of no other.
    pub(crate) async fn connect_to_owner(&mut self, topic: &TopicName) -> Result<Client, Failure> {
        self.connect().await?.at_owner_of(topic).await
    }

    /// Asks a server which others there are. False if it does not answer.
    pub(crate) async fn learn(&mut self, client: &Client) -> bool {
        let asked = timeout(ANSWER_MAX, client.action_one::<_, Value>("health", &json!({}))).await;
        if let Ok(Ok(report)) = &asked
            && let Some(nodes) = report["nodes"].as_array()
        {
            self.told = nodes.iter().filter_map(Value::as_str).take(TOLD_MAX).map(str::to_owned).collect();
        }
        asked.is_ok()
    }

    /// Something has failed: the next time the server that the failure names is tried first, or this one, which is or names the one that failed, last.
    pub(crate) fn after(&mut self, failure: &Failure) {
        match failure.retry() {
            Retry::At(owner) => self.preferred = Some(owner.clone()),
            Retry::Anywhere | Retry::Never => self.passed_over = self.used.take(),
        }
    }

    fn candidates(&self) -> Vec<String> {
        let mut candidates: Vec<String> = Vec::new();
        for server in self.preferred.iter().chain(&self.named).chain(&self.told) {
            if !candidates.contains(server) {
                candidates.push(server.clone());
            }
        }
        let is_last = |server: &String| Some(server) == self.passed_over.as_ref() && self.preferred.is_none();
        candidates.sort_by_key(is_last);
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_is_tried_last_and_who_was_named_for_it_first() {
        let mut servers = Servers::named(&ClientConfig { server: "a,b".into() });
        servers.told = vec!["b".into(), "c".into()];
        assert_eq!(servers.candidates(), ["a", "b", "c"]);
        servers.used = Some("a".into());
        servers.after(&Failure::away("gone"));
        assert_eq!(servers.candidates(), ["b", "c", "a"]);
        servers.preferred = Some("d".into());
        assert_eq!(servers.candidates(), ["d", "a", "b", "c"]);
    }
}
