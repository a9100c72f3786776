//! What can be said on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ingest::engine::OnError;

/// An event store whose storage is the lakehouse: append, replay by key, follow live, query with SQL, open with any Iceberg engine.
#[derive(Debug, Parser)]
#[command(name = "firn", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The server that client commands talk to, or several over one store, separated by commas [default: grpc://127.0.0.1:8815].
    #[arg(long, global = true, env = "FIRN_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Settings file (TOML) [default: ./firn.toml if it is there].
    #[arg(long, global = true, env = "FIRN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON for scripts instead of text for eyes.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What the command does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server over a local folder or an S3 bucket.
    Serve(Serve),
    /// Make, list, describe, drop, resume or sweep topics.
    #[command(subcommand)]
    Topic(Topic),
    /// Append a file of events to a topic.
    Produce(Produce),
    /// Print past events: one key's, or a whole topic's, in order.
    Replay(Replay),
    /// Follow events whose path matches a pattern: history first if asked, then live.
    Tail(Tail),
    /// Run a SQL statement, or a prompt with history if none is given.
    Sql(Sql),
    /// Move acknowledged events into their Iceberg tables now, and wait for it.
    Flush {
        /// Only this topic; all if absent.
        topic: Option<String>,
    },
    /// Ask the server how it is.
    Health,
    /// Prove, without a server, that nothing of a topic is missing, doubled or altered.
    Verify(Verify),
    /// Load a real event history into a fresh store, with a subscription beside it, and show what Firn does.
    Demo(Demo),
}

/// `firn serve`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Every setting can stand in the settings file, e.g. [ingest] flush_interval_ms = 1000, in the environment as \
FIRN_INGEST__FLUSH_INTERVAL_MS, or here as --set ingest.flush_interval_ms=1000. S3 uses the usual AWS_* variables.\n\
SIGTERM or Ctrl-C drains: appends under way are acknowledged, tails flushed, and lanes given to servers that stand by; a second one stops at once \
(nothing acknowledged is lost).\n\
Several servers over one store share its lanes: --set ingest.lanes=4 makes four of them.")]
pub(crate) struct Serve {
    /// Where everything lies: a folder, or s3://bucket/prefix.
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) data: Option<String>,
    /// Where Arrow Flight and Flight SQL listen [default: 127.0.0.1:8815].
    #[arg(long, value_name = "ADDR")]
    pub(crate) flight: Option<SocketAddr>,
    /// Where health and metrics listen [default: 127.0.0.1:8816].
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Where clients find this server, e.g. grpc://10.0.0.7:8815 [default: --flight; if that is every address (0.0.0.0), the one that the machine's
    /// name stands for if it is its own, else the one that it sends to others from].
    #[arg(long, value_name = "URL")]
    pub(crate) advertise: Option<String>,
    /// Take the store over from servers that live. Without it, a server that finds others stands by: it follows them, answers reads, and takes over
    /// what falls silent.
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Any other setting, e.g. ingest.flush_interval_ms=1000. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `firn topic …`
#[derive(Debug, Subcommand)]
pub(crate) enum Topic {
    /// Make a topic. The same definition again is no error.
    Create(Box<TopicCreate>),
    /// Give a topic another schema, while producers go on.
    Alter(TopicAlter),
    /// List the topics.
    List,
    /// Show a topic's columns, positions and where its table lies.
    Describe {
        /// The topic.
        name: String,
    },
    /// Drop a topic: its name is free at once, its events are gone for readers.
    Drop {
        /// The topic.
        name: String,
    },
    /// Take a topic up again that has stopped, once what ails its table is mended.
    Resume {
        /// The topic.
        name: String,
    },
    /// Give the current snapshot of a topic's table a name: it is kept, and can be read by it.
    Tag {
        /// The topic.
        name: String,
        /// The snapshot's name.
        tag: String,
    },
    /// Remove files of a topic's table that nothing names any more. The server does so by itself, now and then.
    Sweep {
        /// The topic.
        name: String,
    },
    /// Show the files of a topic's table by seq range, and what will be compacted next, and why.
    Files {
        /// The topic.
        name: String,
    },
    /// Set how much of a topic is kept: events beyond any of the bounds are dropped, the oldest first, in whole files. Without a bound, everything is kept.
    Retain {
        /// The topic.
        name: String,
        /// Keep events that are younger than so many hours.
        #[arg(long)]
        hours: Option<u64>,
        /// Keep so many bytes of the table's newest files.
        #[arg(long)]
        bytes: Option<u64>,
        /// Keep so many of the newest events.
        #[arg(long)]
        events: Option<u64>,
    },
    /// Compact a topic's table now. The server does so by itself as it comes due.
    Compact {
        /// The topic.
        name: String,
        /// Merge whatever can be merged, due or not.
        #[arg(long)]
        whole: bool,
    },
}

/// `firn topic alter`
///
/// Fields can be added (optional, or with a default), dropped, renamed, reordered, widened (int to long, float to double, more digits of a decimal, enum
/// to string) and made optional, inside records, arrays and maps as well. Earlier events stay, and are read under the new schema everywhere.
#[derive(Debug, ClapArgs)]
pub(crate) struct TopicAlter {
    /// The topic.
    pub(crate) name: String,
    /// The whole new schema: an Avro record, as in an .avsc file. A field's `aliases` say what it was called before.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: PathBuf,
    /// A field that has another name in the new schema, where its aliases do not say so; inner ones by dotted paths. May be repeated.
    #[arg(long, value_name = "OLD=NEW")]
    pub(crate) rename: Vec<String>,
}

/// `firn topic create`
#[derive(Debug, ClapArgs)]
pub(crate) struct TopicCreate {
    /// The topic's name: lower-case letters, digits and _.
    pub(crate) name: String,
    /// The events' schema: an Avro record, as in an .avsc file.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: PathBuf,
    /// A field that makes the key; repeat it for a key of several fields.
    #[arg(long, required = true, value_name = "FIELD")]
    pub(crate) key: Vec<String>,
    /// How an event's path is built, e.g. orders/{region}/{status} [default: the name].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) path: Option<String>,
    /// How many levels of the path the table partitions by [default: 2, or 1 if there is one].
    #[arg(long, value_name = "LEVELS")]
    pub(crate) prefix_levels: Option<usize>,
    /// A SQL expression that no event may make false. May be repeated.
    #[arg(long, value_name = "EXPR")]
    pub(crate) check: Vec<String>,
    /// Flush to the table when the oldest unflushed event is this old, milliseconds.
    #[arg(long, value_name = "MS")]
    pub(crate) flush_interval_ms: Option<u64>,
    /// Flush to the table when this many bytes are unflushed.
    #[arg(long, value_name = "BYTES")]
    pub(crate) flush_bytes: Option<u64>,
    /// Cut timestamps in nanoseconds to microseconds, instead of refusing a schema that has them.
    #[arg(long)]
    pub(crate) truncate_nanos: bool,
}

/// `firn produce`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A load has a name, made of the file's own and what is in it, and the server remembers how far it came. What fails on the way is tried again; a load \
that was interrupted goes on where it stopped when the same command is run again, and nothing is appended twice.\n\
The server remembers the 4,096 loads of a lane that were used last, for 7 days. One that is run again later is refused, since nobody knows how far it came: \
look what of it is in the topic, then append the rest as another file, or all of it again with --start-over.\n\
Exit code 4: some rows were refused (they are named on standard error, or in --refusals). 7: what was expected of the topic does not hold.")]
pub(crate) struct Produce {
    /// The topic.
    pub(crate) topic: String,
    /// A file, or - for standard input.
    pub(crate) file: PathBuf,
    /// The file's format [default: by its name; NDJSON for standard input].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// What becomes of bad rows.
    #[arg(long, value_enum, default_value_t = OnErrorArg::RejectBatch)]
    pub(crate) on_error: OnErrorArg,
    /// Events in a batch: the unit that is appended whole.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) batch_rows: u32,
    /// Write refused rows here as NDJSON: {"row":…,"reason":…}, rows counted from 0 through the whole file.
    #[arg(long, value_name = "FILE")]
    pub(crate) refusals: Option<PathBuf>,
    /// The name under which the server remembers this load [default: made of the file; a new one for standard input].
    #[arg(long, value_name = "NAME")]
    pub(crate) producer: Option<String>,
    /// Append the whole input, whatever an earlier run of it has appended.
    #[arg(long, conflicts_with = "no_producer")]
    pub(crate) start_over: bool,
    /// Do not have this load remembered: it is appended as often as it is sent, and an error ends it.
    #[arg(long)]
    pub(crate) no_producer: bool,
    /// Append only if this is the seq of the topic's last event when the first batch comes; 0 if it must have none.
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) expect_last_seq: Option<i64>,
    /// Append a batch only if no event before it has one of its keys.
    #[arg(long)]
    pub(crate) expect_new_keys: bool,
    /// How long to try again while the server or its store is away, seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) retry_s: u64,
}

/// File formats of `produce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, the first line names the columns; an empty value is null.
    Csv,
    /// Parquet.
    Parquet,
    /// Arrow IPC, file or stream.
    Arrow,
    /// Avro object container file.
    Avro,
}

/// What becomes of bad rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnErrorArg {
    /// One bad row refuses its whole batch.
    RejectBatch,
    /// Good rows are appended, bad ones reported.
    RejectRow,
    /// Like reject-row, and bad rows go to the topic {topic}_dead.
    DeadLetter,
}

impl From<OnErrorArg> for OnError {
    fn from(arg: OnErrorArg) -> Self {
        match arg {
            OnErrorArg::RejectBatch => Self::RejectBatch,
            OnErrorArg::RejectRow => Self::RejectRow,
            OnErrorArg::DeadLetter => Self::DeadLetter,
        }
    }
}

/// `firn replay`
#[derive(Debug, ClapArgs)]
pub(crate) struct Replay {
    /// The topic.
    pub(crate) topic: String,
    /// Only this key's events.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// First seq.
    #[arg(long, value_name = "SEQ")]
    pub(crate) from: Option<i64>,
    /// Stop before this seq.
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<i64>,
    /// Only these columns, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    pub(crate) columns: Option<Vec<String>>,
    /// Only events for which this SQL expression is true.
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) filter: Option<String>,
    /// How long to look for another server when the one that is read from has gone, seconds. It goes on there after the last event that came.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) retry_s: u64,
    /// As the topic was when this was its last event.
    #[arg(long, value_name = "SEQ", group = "at")]
    pub(crate) at_seq: Option<i64>,
    /// As the topic was at this time, e.g. 2024-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME", group = "at")]
    pub(crate) at_time: Option<String>,
    /// As the topic's table was in this snapshot.
    #[arg(long, value_name = "ID", group = "at")]
    pub(crate) at_snapshot: Option<i64>,
    /// As the topic's table was in the snapshot that this tag names.
    #[arg(long, value_name = "TAG", group = "at")]
    pub(crate) at_tag: Option<String>,
}

/// `firn tail`
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Prints one JSON object a line. A pattern has levels split by /: * is one level, > is all that follow, e.g. 'kafka/core/>'."
)]
pub(crate) struct Tail {
    /// Which events, by their path.
    pub(crate) pattern: String,
    /// Where to begin: beginning, now, a seq, or a time such as 2024-01-01T00:00:00Z.
    #[arg(long, default_value = "now")]
    pub(crate) from: String,
    /// Only these columns, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    pub(crate) columns: Option<Vec<String>>,
    /// Only events for which this SQL expression is true.
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) filter: Option<String>,
    /// Stop after this many events.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) limit: Option<u64>,
    /// How long to look for another server when the one that is followed has gone, seconds. It goes on there after the last event that was printed.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) retry_s: u64,
}

/// `firn sql`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
A table can be read as it was: FROM orders AT (SEQ => 17) when event 17 was its last, AT (TIME => '2024-01-01T00:00:00Z'),
AT (SNAPSHOT => 123) or VERSION AS OF 123 in a snapshot of its Iceberg table, AT (TAG => 'audit') in one that was tagged
(`firn topic tag`), and FOR SYSTEM_TIME AS OF '2024-01-01T00:00:00Z' as other engines write it.")]
pub(crate) struct Sql {
    /// The statement; a prompt if absent.
    pub(crate) statement: Option<String>,
}

/// `firn verify`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Reads segments, registers, Iceberg metadata, manifests and data files; writes nothing, and disturbs no server that runs over them: what it proves then holds up to \
the end of the log as it found it. Names the first thing that is wrong.\n\
Exit code 0: proven; 8: something is wrong; 9: it could not look, which proves nothing; 3: there is no such topic or store.")]
pub(crate) struct Verify {
    /// The topic.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) topic: Option<String>,
    /// Every topic of every tenant, and every lane.
    #[arg(long)]
    pub(crate) all: bool,
    /// The topic's tenant.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) tenant: String,
    /// Where everything lies: a folder, or s3://bucket/prefix.
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) data: Option<String>,
}

/// `firn demo`
#[derive(Debug, ClapArgs)]
pub(crate) struct Demo {
    /// A folder that does not exist yet or is empty [default: a temporary one, which is kept].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A Python that has PyIceberg, to open the table with.
    #[arg(long, value_name = "PYTHON")]
    pub(crate) python: Option<PathBuf>,
}
