//! Commits to several tables that are true together, or not at all. [`super::head`] says how.

use bytes::Bytes;
use schemas::{TenantName, limits};
use uuid::Uuid;

use super::RestCatalog;
use super::commit::{Next, check_size};
use super::directory::Kind;
use super::head::{Intent, PinnedHead, State, Transaction};
use super::names::Ident;
use super::pace::Pause;
use super::reply::{Refusal, Reply, Result};
use super::wire::{CommitTable, CommitTransaction, parse};

/// One table of a transaction, whose next metadata is written.
#[derive(Debug)]
struct Part {
    id: Uuid,
    found: PinnedHead,
    next: Next,
}

impl RestCatalog {
    pub(super) async fn commit_transaction(&self, tenant: &TenantName, body: &Bytes, change: Uuid) -> Result<Reply> {
        let CommitTransaction { table_changes } = parse("a transaction", body)?;
        let commits = checked(tenant, table_changes)?;
        if let [(ident, commit)] = &commits[..] {
            self.commit_one(tenant, ident, commit, change).await?;
            return Ok(Reply::done());
        }
        let mut pause = Pause::new(self.env());
        let mut tried = None;
        loop {
            let tables = self.leader_first(tenant, &commits).await?;
            let leader = self.settled(tenant, Kind::Table, tables[0].0).await?.head;
            if leader.has_had(change) {
                return Ok(Reply::done());
            }
            if tried.is_some_and(|tried| leader.may_have_forgotten(tried)) {
                return Err(Refusal::unknown("so much was committed since that it cannot be told whether this was"));
            }
            if self.attempt(tenant, tables, change).await? {
                return Ok(Reply::done());
            }
            tried = tried.or(Some(leader.version));
            pause.before_another("a transaction").await?;
        }
    }

    /// The tables by their ids: all transactions begin at the same end.
    async fn leader_first<'a>(
        &self,
        tenant: &TenantName,
        commits: &'a [(Ident, CommitTable)],
    ) -> Result<Vec<(Uuid, &'a CommitTable)>> {
        let directory = self.directory(tenant).await?;
        let mut tables = Vec::with_capacity(commits.len());
        for (ident, commit) in commits {
            tables.push((directory.entry(Kind::Table, ident)?.id, commit));
        }
        tables.sort_by_key(|(id, _)| *id);
        Ok(tables)
    }

    /// One attempt. False if others were faster: nothing has happened.
    async fn attempt(&self, tenant: &TenantName, tables: Vec<(Uuid, &CommitTable)>, change: Uuid) -> Result<bool> {
        let mut parts = Vec::with_capacity(tables.len());
        for (id, commit) in tables {
            let found = self.settled(tenant, Kind::Table, id).await?;
            let next = self.prepare(tenant, id, &found, commit).await?;
            parts.push(Part { id, found, next });
        }
        let Some((leader, others)) = parts.split_first() else { return Ok(true) };
        let transaction = Transaction {
            id: self.env().uuid(),
            state: State::Open,
            metadata: leader.next.uri.clone(),
            others: others.iter().map(|other| other.id).collect(),
        };
        let leads = leader.found.head.with_leads(Some(transaction.clone()));
        let Some(open) = self.swap_head(tenant, Kind::Table, leader.id, &leader.found, leads).await.map_err(undone)?
        else {
            return Ok(false);
        };
        match self.intend(tenant, leader.id, others, transaction.id).await {
            Ok(true) => {}
            overtaken_or_failed => {
                self.call_off(tenant, leader.id, &open).await;
                return overtaken_or_failed.map_err(undone);
            }
        }
        if !self.decide(tenant, leader, &open, transaction, change).await? {
            return Ok(false);
        }
        for part in &parts {
            self.forget(&part.next).await;
        }
        Ok(true)
    }

    /// Writes the intents. False if another commit was faster at one of the tables.
    async fn intend(&self, tenant: &TenantName, leader: Uuid, others: &[Part], transaction: Uuid) -> Result<bool> {
        for other in others {
            let intent = Intent { transaction, leader, metadata: other.next.uri.clone() };
            let head = other.found.head.with_intent(Some(intent));
            if self.swap_head(tenant, Kind::Table, other.id, &other.found, head).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The swap that makes all of it true. False if somebody has called the transaction off.
    async fn decide(
        &self,
        tenant: &TenantName,
        leader: &Part,
        open: &PinnedHead,
        transaction: Transaction,
        change: Uuid,
    ) -> Result<bool> {
        let committed = Transaction { state: State::Committed, ..transaction };
        let head = open.head.committed(leader.next.uri.clone(), change).with_leads(Some(committed.clone()));
        let won = match self.swap_head(tenant, Kind::Table, leader.id, open, head).await? {
            Some(_) => true,
            // An own success may have been followed by another's change already.
            None => self.read_head(tenant, Kind::Table, leader.id).await?.head.has_had(change),
        };
        // Whoever comes next would do the same.
        if let Err(error) = self.finish(tenant, leader.id, &committed).await {
            tracing::debug!(
                error = error.message,
                "the intents of a transaction stay for the next commit to put in place"
            );
        }
        Ok(won)
    }

    /// Nobody goes on with it any more; whoever comes next would find that out for himself.
    async fn call_off(&self, tenant: &TenantName, leader: Uuid, open: &PinnedHead) {
        let called_off = async {
            self.abort(tenant, leader, open).await?;
            match self.read_head(tenant, Kind::Table, leader).await?.head.leads {
                Some(leads) if leads.state != State::Open => self.finish(tenant, leader, &leads).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = called_off.await {
            tracing::debug!(
                error = error.message,
                "a transaction that was given up stays for the next commit to clear away"
            );
        }
    }
}

/// Whatever the answer to a swap before the deciding one was: nothing was committed, and nothing will be.
fn undone(error: Refusal) -> Refusal {
    match error.status {
        500 => Refusal::unavailable(error.message),
        _ => error,
    }
}

/// Errors: 400 for none, too many, one twice, one without a name, one that is to be made; 403 for a topic's table.
fn checked(tenant: &TenantName, changes: Vec<CommitTable>) -> Result<Vec<(Ident, CommitTable)>> {
    let (found, most) = (changes.len(), limits::TRANSACTION_TABLES_MAX);
    if found == 0 || found > most {
        return Err(Refusal::bad_request(format!("a transaction changes 1 to {most} tables, found {found}")));
    }
    let mut commits: Vec<(Ident, CommitTable)> = Vec::with_capacity(found);
    for commit in changes {
        check_size(&commit)?;
        let ident = commit.identifier.clone();
        let ident = ident.ok_or_else(|| Refusal::bad_request("a table of a transaction needs an identifier"))?;
        ident.check()?;
        if commits.iter().any(|(other, _)| *other == ident) {
            return Err(Refusal::bad_request(format!("{ident} stands in the transaction twice")));
        }
        if found > 1 && ident.namespace.is_of_topics(tenant) {
            let instead = "commit to it alone: events flow into it all the time, and wait for no other table";
            return Err(Refusal::of_topic(&ident.to_string(), "a transaction with other tables", instead));
        }
        if found > 1 && commit.requirements.contains(&iceberg::TableRequirement::NotExist) {
            return Err(Refusal::bad_request(format!(
                "{ident}: tables are made one by one, not in a transaction of several"
            )));
        }
        commits.push((ident, commit));
    }
    Ok(commits)
}
