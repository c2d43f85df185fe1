//! The one table of settings. Environment names, flags, `--help`, `.env.example`,
//! the table of docs/configuration.md, defaults and the check of values all come
//! from here; the structs of [`crate::config`] only give the values types.

use figment::value::Value;

use super::values;

/// One setting that has the same name in every layer.
#[derive(Debug)]
pub struct Setting {
    /// The dotted name, as in `coglex.toml`.
    pub name: &'static str,
    /// What values look like.
    pub kind: Kind,
    /// The lowest layer, or what is shown when the default is computed.
    pub default: DefaultValue,
    /// One sentence for `--help` and the documentation.
    pub help: &'static str,
    /// Environment variables of the original server that mean the same.
    pub aliases: &'static [&'static str],
}

/// What values of a setting look like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
    /// An absolute http or https URL, or nothing.
    Url,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds.
    Count {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts; separated by commas outside of `coglex.toml`.
    List,
    /// A length of time such as `30s`, at least this many milliseconds.
    Period {
        /// Least, in milliseconds.
        min_ms: u64,
    },
    /// A number of bytes such as `16 MiB`, within bounds.
    Size {
        /// Least, in bytes.
        min: u64,
        /// Most, in bytes.
        max: u64,
    },
}

/// The value of a setting that nobody has set.
#[derive(Debug, Clone, Copy)]
pub enum DefaultValue {
    /// Written as in an environment variable.
    Value(&'static str),
    /// Computed at start; the text says how.
    Computed(&'static str),
}

use DefaultValue::{Computed, Value as Is};

const MIB: u64 = 1 << 20;

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "server.host",
        kind: Kind::Text,
        default: Is("127.0.0.1"),
        help: "Address or host name to listen on; 0.0.0.0 for every interface.",
        aliases: &["SERVER_HOST"],
    },
    Setting {
        name: "server.port",
        kind: Kind::Count {
            min: 0,
            max: 65_535,
        },
        default: Is("5000"),
        help: "TCP port to listen on; 0 picks a free one.",
        aliases: &["SERVER_PORT"],
    },
    Setting {
        name: "server.secret",
        kind: Kind::Secret,
        default: Computed("generated, kept in data.dir"),
        help: "The API key that clients send as X-API-Key. Flags show up in process lists: prefer the environment.",
        aliases: &["SERVER_SECRET"],
    },
    Setting {
        name: "server.public_url",
        kind: Kind::Url,
        default: Is(""),
        help: "The URL that clients use, where a proxy stands in front; https:// makes cookies Secure.",
        aliases: &[],
    },
    Setting {
        name: "server.static_dir",
        kind: Kind::Text,
        default: Is("static"),
        help: "Folder that is served under /static/.",
        aliases: &[],
    },
    Setting {
        name: "server.cors_origins",
        kind: Kind::List,
        default: Is(""),
        help: "Origins whose pages may call the server, such as https://app.example; * for any, without cookies. None: CORS is off.",
        aliases: &[],
    },
    Setting {
        name: "server.body_limit",
        kind: Kind::Size {
            min: 1024,
            max: 2048 * MIB,
        },
        default: Is("16 MiB"),
        help: "Largest JSON or gateway request body.",
        aliases: &[],
    },
    Setting {
        name: "server.header_limit",
        kind: Kind::Size {
            min: 8192,
            max: 16 * MIB,
        },
        default: Is("64 KiB"),
        help: "Largest request head: request line and headers together.",
        aliases: &[],
    },
    Setting {
        name: "server.header_count",
        kind: Kind::Count {
            min: 16,
            max: 10_000,
        },
        default: Is("100"),
        help: "Most headers of one request.",
        aliases: &[],
    },
    Setting {
        name: "server.header_timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("30s"),
        help: "How long a connection may take to send a request head, or be idle between two.",
        aliases: &[],
    },
    Setting {
        name: "server.body_timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("30s"),
        help: "How long a client may take to send a JSON request body. A gateway app's has the wall-clock budget of its plugin.",
        aliases: &[],
    },
    Setting {
        name: "server.request_timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("60s"),
        help: "How long a request may take until its response starts.",
        aliases: &[],
    },
    Setting {
        name: "server.threads",
        kind: Kind::Count { min: 1, max: 1024 },
        default: Computed("the number of cores, and 6"),
        help: "Threads that serve requests. More than there are cores, so that what holds a thread up, such as a guest's copy of many bytes, holds no other request up.",
        aliases: &[],
    },
    Setting {
        name: "server.trusted_proxies",
        kind: Kind::Count { min: 0, max: 16 },
        default: Is("0"),
        help: "How many proxies in front of the server set X-Forwarded-For; limits by address then count the clients that the outermost of them has seen. With 0 the header is not believed.",
        aliases: &[],
    },
    Setting {
        name: "server.write_timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("30s"),
        help: "How long a client may take nothing of a response that is being sent to it.",
        aliases: &[],
    },
    Setting {
        name: "server.shutdown_grace",
        kind: Kind::Period { min_ms: 0 },
        default: Is("10s"),
        help: "How long requests in flight may go on after SIGTERM or Ctrl-C.",
        aliases: &[],
    },
    Setting {
        name: "admin.key",
        kind: Kind::Secret,
        default: Computed("generated, kept in data.dir"),
        help: "The key of the admin API and of `coglex plugin`, sent as X-Admin-Key; at least 16 characters, and another than server.secret.",
        aliases: &[],
    },
    Setting {
        name: "limits.address_requests",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
        },
        default: Is("0"),
        help: "Requests a minute that one address may send, or one /64 of IPv6; past it 429. 0: any number. Behind a proxy set server.trusted_proxies first, or all clients share one limit.",
        aliases: &[],
    },
    Setting {
        name: "limits.key_requests",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
        },
        default: Is("0"),
        help: "Requests a minute with one scoped API key; 0: any number. server.secret is not counted.",
        aliases: &[],
    },
    Setting {
        name: "limits.user_requests",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
        },
        default: Is("0"),
        help: "Requests a minute of one signed-in user, under access rules and behind guards of apps; 0: any number.",
        aliases: &[],
    },
    Setting {
        name: "audit.retention",
        kind: Kind::Period { min_ms: 0 },
        default: Is("90d"),
        help: "How long the audit log keeps an entry (sign-ins, keys, rules, what operators do); 0s writes none.",
        aliases: &[],
    },
    Setting {
        name: "audit.entries",
        kind: Kind::Count {
            min: 0,
            max: 100_000_000,
        },
        default: Is("200000"),
        help: "Entries that the audit log keeps; past it the oldest failures go first. 0 writes none.",
        aliases: &[],
    },
    Setting {
        name: "data.dir",
        kind: Kind::Text,
        default: Is("./coglex-data"),
        help: "Folder of the embedded store, generated keys and caches.",
        aliases: &[],
    },
    Setting {
        name: "mongodb.uri",
        kind: Kind::Secret,
        default: Computed("none: documents are kept in data.dir"),
        help: "Connection string of a MongoDB server or cluster that keeps the documents.",
        aliases: &["MONGODB_URI"],
    },
    Setting {
        name: "mongodb.database",
        kind: Kind::Text,
        default: Computed("the one that mongodb.uri names, else coglex"),
        help: "Database on that server.",
        aliases: &["MONGODB_DATABASE"],
    },
    Setting {
        name: "storage.page_limit",
        kind: Kind::Count {
            min: 1,
            max: 100_000,
        },
        default: Is("1000"),
        help: "Most documents that one request returns.",
        aliases: &[],
    },
    Setting {
        name: "storage.result_limit",
        kind: Kind::Size {
            min: 1024,
            max: 2048 * MIB,
        },
        default: Is("64 MiB"),
        help: "Largest JSON that one storage request returns.",
        aliases: &[],
    },
    Setting {
        name: "storage.document_limit",
        kind: Kind::Size {
            min: 1024,
            max: 16 * MIB,
        },
        default: Is("16 MiB"),
        help: "Largest document.",
        aliases: &[],
    },
    Setting {
        name: "storage.depth_limit",
        kind: Kind::Count { min: 2, max: 100 },
        default: Is("100"),
        help: "Deepest nesting of documents, filters and updates.",
        aliases: &[],
    },
    Setting {
        name: "archive.backend",
        kind: Kind::Choice(&["folder", "gridfs", "s3"]),
        default: Is("folder"),
        help: "Where the bytes of files are kept: a folder of this machine, GridFS in the database of mongodb.uri, or an S3-compatible bucket. Hosts of one database need one of the last two, or a folder that they share.",
        aliases: &[],
    },
    Setting {
        name: "archive.dir",
        kind: Kind::Text,
        default: Computed("files inside data.dir"),
        help: "The folder, where they are kept in one.",
        aliases: &[],
    },
    Setting {
        name: "archive.file_limit",
        kind: Kind::Size {
            min: 0,
            max: 40 * 1024 * MIB,
        },
        default: Is("1 GiB"),
        help: "Largest file.",
        aliases: &[],
    },
    Setting {
        name: "archive.types",
        kind: Kind::List,
        default: Is(""),
        help: "Media types of files that are taken, such as image/png or image/*; both what the sender declares and what the bytes look like have to be among them. None: all are taken.",
        aliases: &[],
    },
    Setting {
        name: "archive.upload_timeout",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("1h"),
        help: "How long a request may take that sends a file. It may pause for server.body_timeout.",
        aliases: &[],
    },
    Setting {
        name: "archive.resumable_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("1d"),
        help: "How long an upload in parts is kept after its last part.",
        aliases: &[],
    },
    Setting {
        name: "archive.url_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("7d"),
        help: "The longest life of a signed URL.",
        aliases: &[],
    },
    Setting {
        name: "archive.orphan_age",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("1h"),
        help: "How long bytes are left alone that no document stands for, beyond archive.upload_timeout; longer than an upload takes from its last byte on, hooks included.",
        aliases: &[],
    },
    Setting {
        name: "archive.thumbnail_source",
        kind: Kind::Size {
            min: 0,
            max: 1024 * MIB,
        },
        default: Is("32 MiB"),
        help: "Largest image that is shown smaller.",
        aliases: &[],
    },
    Setting {
        name: "archive.thumbnail_pixels",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000_000,
        },
        default: Is("25000000"),
        help: "Most pixels of such an image. Two are decoded at once, in up to 12 bytes for each pixel.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.endpoint",
        kind: Kind::Url,
        default: Is(""),
        help: "URL of the S3-compatible service, such as https://s3.eu-central-1.amazonaws.com.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.region",
        kind: Kind::Text,
        default: Is("us-east-1"),
        help: "Region that requests to it are signed for.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.bucket",
        kind: Kind::Text,
        default: Is(""),
        help: "The bucket.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.prefix",
        kind: Kind::Text,
        default: Is(""),
        help: "What the names of objects in the bucket begin with.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.access_key",
        kind: Kind::Secret,
        default: Computed("none"),
        help: "The key's public half.",
        aliases: &[],
    },
    Setting {
        name: "archive.s3.secret_key",
        kind: Kind::Secret,
        default: Computed("none"),
        help: "The key's secret half.",
        aliases: &[],
    },
    Setting {
        name: "auth.sign_up",
        kind: Kind::Choice(&["open", "closed"]),
        default: Is("open"),
        help: "Whether clients may sign users up; closed leaves it to plugins that were granted it.",
        aliases: &[],
    },
    Setting {
        name: "auth.password_min",
        kind: Kind::Count { min: 1, max: 128 },
        default: Is("8"),
        help: "Fewest characters of a new password.",
        aliases: &[],
    },
    Setting {
        name: "auth.password_max",
        kind: Kind::Count { min: 16, max: 1024 },
        default: Is("256"),
        help: "Most characters of a new password; none has more than 1024 bytes.",
        aliases: &[],
    },
    Setting {
        name: "auth.password_allow_common",
        kind: Kind::Switch,
        default: Is("false"),
        help: "Take new passwords that many people have, too, and those that are the user's key.",
        aliases: &[],
    },
    Setting {
        name: "auth.access_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("15m"),
        help: "How long an access token is good for; a refresh token gets another.",
        aliases: &[],
    },
    Setting {
        name: "auth.session_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("7d"),
        help: "How long a sign-in lasts that is not renewed with its refresh token; a cookie lasts as long.",
        aliases: &[],
    },
    Setting {
        name: "auth.session_max_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("90d"),
        help: "How long a sign-in lasts at most, however often it is renewed.",
        aliases: &[],
    },
    Setting {
        name: "auth.email_field",
        kind: Kind::Text,
        default: Computed("`_key` where that is an address, else `email`"),
        help: "The field that holds users' e-mail addresses.",
        aliases: &[],
    },
    Setting {
        name: "auth.verification",
        kind: Kind::Choice(&["off", "ask", "required"]),
        default: Is("off"),
        help: "What is asked of addresses: ask sends a link at sign-up, required also refuses sign-ins until it was followed.",
        aliases: &[],
    },
    Setting {
        name: "auth.codes",
        kind: Kind::Switch,
        default: Is("false"),
        help: "Let users sign in with codes that are sent to their addresses.",
        aliases: &[],
    },
    Setting {
        name: "auth.anonymous",
        kind: Kind::Switch,
        default: Is("false"),
        help: "Let clients make users without key and password, who may get them later.",
        aliases: &[],
    },
    Setting {
        name: "auth.verify_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("1d"),
        help: "How long links are good that verify an address.",
        aliases: &[],
    },
    Setting {
        name: "auth.reset_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("1h"),
        help: "How long links are good that set a password or change an address.",
        aliases: &[],
    },
    Setting {
        name: "auth.code_ttl",
        kind: Kind::Period { min_ms: 1000 },
        default: Is("10m"),
        help: "How long codes are good that are sent to sign in with.",
        aliases: &[],
    },
    Setting {
        name: "auth.verify_url",
        kind: Kind::Url,
        default: Is(""),
        help: "The app's page that links for verifying an address lead to; {realm} in it is the collection. None: a page of this server, under server.public_url.",
        aliases: &[],
    },
    Setting {
        name: "auth.reset_url",
        kind: Kind::Url,
        default: Is(""),
        help: "The app's page that links for a new password lead to, the same way.",
        aliases: &[],
    },
    Setting {
        name: "auth.email_url",
        kind: Kind::Url,
        default: Is(""),
        help: "The app's page that links for a new address lead to, the same way.",
        aliases: &[],
    },
    Setting {
        name: "auth.sign_in_failures",
        kind: Kind::Count { min: 0, max: 1000 },
        default: Is("10"),
        help: "Failed sign-ins of one user from one address before each further one has to wait, up to a minute; 0 turns that off.",
        aliases: &[],
    },
    Setting {
        name: "auth.address_failures",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000,
        },
        default: Is("200"),
        help: "Failed sign-ins from one address within ten minutes, whatever the user; 0 turns that off. Backends that sign users in have to be counted in server.trusted_proxies.",
        aliases: &[],
    },
    Setting {
        name: "auth.token_algorithm",
        kind: Kind::Choice(&["HS256", "EdDSA"]),
        default: Is("HS256"),
        help: "What access tokens are signed with; those of EdDSA can be verified by others, with the keys under /.well-known/jwks.json.",
        aliases: &[],
    },
    Setting {
        name: "auth.key_lifetime",
        kind: Kind::Period { min_ms: 60_000 },
        default: Is("90d"),
        help: "How long a key signs access tokens until another takes its place; it verifies until the last of them is over.",
        aliases: &[],
    },
    Setting {
        name: "auth.redirect_urls",
        kind: Kind::List,
        default: Is(""),
        help: "Pages that browsers go back to after a sign-in by a provider, whole URLs; the first is the one for who names none.",
        aliases: &[],
    },
    Setting {
        name: "auth.issuer",
        kind: Kind::Text,
        default: Is("coglex"),
        help: "`iss` of access tokens; tokens with another are refused.",
        aliases: &[],
    },
    Setting {
        name: "auth.argon2_memory",
        kind: Kind::Size {
            min: 64 << 10,
            max: 4096 * MIB,
        },
        default: Is("19 MiB"),
        help: "Memory of one argon2id password hashing.",
        aliases: &[],
    },
    Setting {
        name: "auth.argon2_passes",
        kind: Kind::Count { min: 1, max: 100 },
        default: Is("2"),
        help: "Passes of argon2id over its memory.",
        aliases: &[],
    },
    Setting {
        name: "auth.argon2_lanes",
        kind: Kind::Count { min: 1, max: 8 },
        default: Is("1"),
        help: "Lanes of argon2id.",
        aliases: &[],
    },
    Setting {
        name: "auth.hash_concurrency",
        kind: Kind::Count { min: 1, max: 1024 },
        default: Computed("half of the cores"),
        help: "Passwords that are hashed at once, so that a storm of sign-ins leaves room for the rest.",
        aliases: &[],
    },
    Setting {
        name: "auth.signing_key",
        kind: Kind::Secret,
        default: Computed("generated, kept in data.dir"),
        help: "Secret that the keys of access and refresh tokens are made from, at least 32 characters; the same on all hosts of one database. A new one ends all sessions.",
        aliases: &[],
    },
    Setting {
        name: "auth.hash_queue",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000,
        },
        default: Is("256"),
        help: "Hashings that may wait; past it sign-ins are answered 503.",
        aliases: &[],
    },
    Setting {
        name: "mail.host",
        kind: Kind::Text,
        default: Computed("none: `coglex dev` prints letters, `coglex serve` sends none"),
        help: "The SMTP server that takes letters.",
        aliases: &["SMTP_SERVER"],
    },
    Setting {
        name: "mail.port",
        kind: Kind::Count {
            min: 1,
            max: 65_535,
        },
        default: Is("587"),
        help: "Its port.",
        aliases: &["SMTP_PORT"],
    },
    Setting {
        name: "mail.username",
        kind: Kind::Text,
        default: Computed("none: nobody signs in there"),
        help: "Who signs in there.",
        aliases: &["SMTP_USERNAME"],
    },
    Setting {
        name: "mail.password",
        kind: Kind::Secret,
        default: Computed("none"),
        help: "With what password.",
        aliases: &["SMTP_PASSWORD"],
    },
    Setting {
        name: "mail.tls",
        kind: Kind::Choice(&["auto", "starttls", "tls", "none"]),
        default: Is("auto"),
        help: "How the connection is encrypted: tls from its first byte, starttls after a word in the clear; auto is tls on port 465, else starttls. none is for servers on this machine.",
        aliases: &[],
    },
    Setting {
        name: "mail.insecure",
        kind: Kind::Switch,
        default: Is("false"),
        help: "Let mail.tls = none go to other machines, too.",
        aliases: &[],
    },
    Setting {
        name: "mail.authorities",
        kind: Kind::Text,
        default: Computed("only those that browsers believe"),
        help: "PEM file of certificate authorities that the SMTP server's certificate may be of, too.",
        aliases: &[],
    },
    Setting {
        name: "mail.timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("30s"),
        help: "How long the SMTP server may take for each step.",
        aliases: &[],
    },
    Setting {
        name: "mail.from",
        kind: Kind::Text,
        default: Computed("mail.username, where that is an address"),
        help: "Who letters are from, such as Acme <acme@example.org>.",
        aliases: &[],
    },
    Setting {
        name: "mail.app_name",
        kind: Kind::Text,
        default: Computed("the host of server.public_url, else Coglex"),
        help: "What letters call the app.",
        aliases: &[],
    },
    Setting {
        name: "mail.templates_dir",
        kind: Kind::Text,
        default: Is("templates/mail"),
        help: "Folder with templates in place of the built-in letters, NAME.txt and NAME.html.",
        aliases: &[],
    },
    Setting {
        name: "mail.plugin_letters",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000,
        },
        default: Is("100"),
        help: "Letters that one plugin sends within an hour, on all hosts together.",
        aliases: &[],
    },
    Setting {
        name: "plugins.dir",
        kind: Kind::Text,
        default: Computed("plugins inside data.dir"),
        help: "Folder of the components that are served.",
        aliases: &[],
    },
    Setting {
        name: "plugins.watch",
        kind: Kind::Switch,
        default: Is("true"),
        help: "Load, reload and unload components when their files change.",
        aliases: &[],
    },
    Setting {
        name: "plugins.egress_authorities",
        kind: Kind::Text,
        default: Computed("only those that browsers believe"),
        help: "PEM file of certificate authorities that plugins' requests believe, too.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.memory",
        kind: Kind::Size {
            min: 64 << 10,
            max: 4096 * MIB,
        },
        default: Is("128 MiB"),
        help: "Memory of one call into a plugin.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.cpu",
        kind: Kind::Period { min_ms: 1 },
        default: Is("10s"),
        help: "CPU time of one call.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.wall",
        kind: Kind::Period { min_ms: 1 },
        default: Is("30s"),
        help: "Wall-clock time of one call, waiting for the host included.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.host_calls",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
        },
        default: Is("1000"),
        help: "Calls from a plugin to the host during one call.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.host_call_bytes",
        kind: Kind::Size {
            min: 0,
            max: 4096 * MIB,
        },
        default: Is("64 MiB"),
        help: "Bytes that those calls carry, both ways.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.response",
        kind: Kind::Size {
            min: 0,
            max: 2048 * MIB,
        },
        default: Is("16 MiB"),
        help: "Largest response or result of a plugin.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.log",
        kind: Kind::Size {
            min: 0,
            max: 64 * MIB,
        },
        default: Is("64 KiB"),
        help: "Log output of one call; the rest is dropped.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.kv",
        kind: Kind::Size {
            min: 0,
            max: 1024 * 1024 * MIB,
        },
        default: Is("64 MiB"),
        help: "Keys and values of one plugin in the store.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.concurrency",
        kind: Kind::Count {
            min: 1,
            max: 100_000,
        },
        default: Is("256"),
        help: "Calls into one plugin at once.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.queue",
        kind: Kind::Count {
            min: 0,
            max: 100_000,
        },
        default: Is("256"),
        help: "Calls that may wait for their turn; past it they are answered 503.",
        aliases: &[],
    },
    Setting {
        name: "plugins.budget.queue_wait",
        kind: Kind::Period { min_ms: 0 },
        default: Is("1s"),
        help: "How long a call waits for its turn before it is answered 503.",
        aliases: &[],
    },
    Setting {
        name: "jobs.concurrency",
        kind: Kind::Count { min: 0, max: 1_000 },
        default: Is("8"),
        help: "Jobs that this host runs at once; 0 leaves them to other hosts of the database.",
        aliases: &[],
    },
    Setting {
        name: "jobs.queue",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
        },
        default: Is("100000"),
        help: "Jobs that may wait and run; about that many, past it new ones are answered 503.",
        aliases: &[],
    },
    Setting {
        name: "jobs.max_attempts",
        kind: Kind::Count { min: 1, max: 100 },
        default: Is("5"),
        help: "Attempts of a job that does not say how many.",
        aliases: &[],
    },
    Setting {
        name: "jobs.retry_base",
        kind: Kind::Period { min_ms: 1 },
        default: Is("1s"),
        help: "The longest wait before the first retry of a job; each further one may wait twice as long.",
        aliases: &[],
    },
    Setting {
        name: "jobs.retry_max",
        kind: Kind::Period { min_ms: 1 },
        default: Is("5m"),
        help: "The longest wait before any retry.",
        aliases: &[],
    },
    Setting {
        name: "jobs.function_wait",
        kind: Kind::Period { min_ms: 0 },
        default: Is("1d"),
        help: "How long a job waits for a function that no plugin has, before it is dead.",
        aliases: &[],
    },
    Setting {
        name: "jobs.lease",
        kind: Kind::Period { min_ms: 1_000 },
        default: Is("30s"),
        help: "How long a host may be silent before its jobs are run again; the same on all hosts of one database.",
        aliases: &[],
    },
    Setting {
        name: "jobs.retention",
        kind: Kind::Period { min_ms: 1_000 },
        default: Is("7d"),
        help: "How long jobs and their results are kept once they are over.",
        aliases: &[],
    },
    Setting {
        name: "jobs.dead_retention",
        kind: Kind::Period { min_ms: 1_000 },
        default: Is("30d"),
        help: "The same for dead jobs.",
        aliases: &[],
    },
    Setting {
        name: "jobs.result_limit",
        kind: Kind::Size {
            min: 0,
            max: 8 * MIB,
        },
        default: Is("1 MiB"),
        help: "Largest result of a job that is kept; of a larger one only that it succeeded.",
        aliases: &[],
    },
    Setting {
        name: "payment.secret_key",
        kind: Kind::Secret,
        default: Computed("none: payments are off"),
        help: "Secret or restricted key of Stripe, sk_test_… or sk_live_…; plugins never see it.",
        aliases: &["STRIPE_SECRET_KEY"],
    },
    Setting {
        name: "payment.webhook_secret",
        kind: Kind::Secret,
        default: Computed("none: events are not taken"),
        help: "Signing secret of Stripe's webhook, whsec_…; several with commas between them while one takes the place of another.",
        aliases: &["STRIPE_WEBHOOK_SECRET"],
    },
    Setting {
        name: "payment.api_base",
        kind: Kind::Url,
        default: Is(""),
        help: "Where requests go instead of https://api.stripe.com; https for a key of live mode.",
        aliases: &["STRIPE_API_BASE"],
    },
    Setting {
        name: "payment.mode",
        kind: Kind::Choice(&["auto", "test", "live"]),
        default: Is("auto"),
        help: "The mode that is meant: a server whose key is of another does not start. With auto it is the key's. Events of the other mode are refused.",
        aliases: &[],
    },
    Setting {
        name: "payment.timeout",
        kind: Kind::Period { min_ms: 100 },
        default: Is("15s"),
        help: "How long Stripe may take for one attempt at a request.",
        aliases: &[],
    },
    Setting {
        name: "payment.attempts",
        kind: Kind::Count { min: 1, max: 10 },
        default: Is("3"),
        help: "How often a request is sent to Stripe at most, where sending it again is safe; all attempts share server.request_timeout.",
        aliases: &[],
    },
    Setting {
        name: "payment.event_retention",
        kind: Kind::Period { min_ms: 60_000 },
        default: Is("90d"),
        help: "How long events of Stripe are kept, to be replayed, and to be known when they come again.",
        aliases: &[],
    },
    Setting {
        name: "log.format",
        kind: Kind::Choice(&["auto", "pretty", "json"]),
        default: Is("auto"),
        help: "Shape of log lines: pretty on a terminal and json elsewhere with auto.",
        aliases: &[],
    },
    Setting {
        name: "log.filter",
        kind: Kind::Text,
        default: Is("info"),
        help: "What is logged: a level, or directives such as info,coglex::access=debug for a line per request.",
        aliases: &[],
    },
];

/// Tables of `coglex.toml` that hold one entry per plugin, which have no
/// environment names or flags since their keys are not known beforehand; `auth.realms`
/// with one per realm; `auth.providers` with one per identity provider; `archive.collections` with one per collection; and
/// the ceiling of budgets, whose keys are those of `plugins.budgets`.
pub(super) const FREE_TABLES: &[&str] = &[
    "archive.collections",
    "auth.providers",
    "auth.realms",
    "plugins.allow",
    "plugins.settings",
    "plugins.secrets",
    "plugins.budgets",
    "plugins.max_budget",
];

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

impl Setting {
    /// The environment variable: `COGLEX_SERVER_PORT` for `server.port`.
    pub fn variable(&self) -> String {
        format!(
            "COGLEX_{}",
            self.name.replace('.', "_").to_ascii_uppercase()
        )
    }

    /// The flag without its dashes: `server-port` for `server.port`.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// The first part of the name, which is a heading of the documentation.
    pub fn section(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    /// Whether values must never be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// The default as people read it.
    pub fn default_shown(&self) -> &'static str {
        match self.default {
            Is("") => "none",
            Is(text) | Computed(text) => text,
        }
    }

    /// A value from an environment variable, a flag or the table, where all is
    /// text. Says what was expected when the text is not it.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind {
            Kind::Count { .. } => match text.trim().parse::<i64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(text),
            },
            Kind::Switch => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Value::from(true),
                "false" | "0" | "no" | "off" => Value::from(false),
                _ => Value::from(text),
            },
            Kind::List => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Value::from)
                .collect::<Vec<_>>()
                .into(),
            _ => Value::from(text),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Whether a value is of the setting's kind; else what was expected, and
    /// what was found unless that is a secret.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let expected = match self.kind {
            Kind::Text if value.as_str().is_some() => return Ok(()),
            Kind::Text => "text".to_owned(),
            Kind::Secret => {
                return match value.as_str() {
                    Some(text)
                        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) =>
                    {
                        Ok(())
                    }
                    _ => Err(
                        "must be text of visible ASCII characters, so that a header can carry it"
                            .to_owned(),
                    ),
                };
            }
            Kind::Url if value.as_str().is_some_and(is_url_or_empty) => return Ok(()),
            Kind::Url => "a URL such as https://api.example".to_owned(),
            Kind::Switch if value.to_bool().is_some() => return Ok(()),
            Kind::Switch => "true or false".to_owned(),
            Kind::Count { min, max } => match whole(value) {
                Some(number) if (min..=max).contains(&number) => return Ok(()),
                _ => format!("a whole number from {min} to {max}"),
            },
            Kind::Choice(words) => match value.as_str() {
                Some(word) if words.contains(&word) => return Ok(()),
                _ => format!("one of {}", words.join(", ")),
            },
            Kind::List => match value.as_array() {
                Some(items) if items.iter().all(|item| item.as_str().is_some()) => return Ok(()),
                _ => "a list of texts".to_owned(),
            },
            Kind::Period { min_ms } => match values::period_ms(value) {
                Some(ms) if ms >= min_ms => return Ok(()),
                Some(_) => format!("at least {min_ms}ms"),
                None => "a length of time such as 500ms, 30s, 5m, 12h or 7d".to_owned(),
            },
            Kind::Size { min, max } => match values::size_bytes(value) {
                Some(bytes) if (min..=max).contains(&bytes) => return Ok(()),
                Some(_) => format!(
                    "from {} to {}",
                    values::show_size(min),
                    values::show_size(max)
                ),
                None => "a number of bytes such as 4096, 64 KiB or 16 MiB".to_owned(),
            },
        };
        Err(format!("must be {expected}, not {}", values::show(value)))
    }
}

fn is_url_or_empty(text: &str) -> bool {
    let url = text.parse::<http::Uri>();
    let is_absolute = |url: &http::Uri| {
        url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"))
    };
    text.is_empty() || url.as_ref().is_ok_and(is_absolute)
}

fn whole(value: &Value) -> Option<i64> {
    value
        .to_i128()
        .and_then(|number| i64::try_from(number).ok())
        .or_else(|| {
            value
                .to_u128()
                .and_then(|number| i64::try_from(number).ok())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        for setting in SETTINGS {
            if let Is(text) = setting.default {
                assert!(setting.parse(text).is_ok(), "{}: {text}", setting.name);
            }
        }
    }

    #[test]
    fn names_variables_and_aliases_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for setting in SETTINGS {
            assert!(seen.insert(setting.variable()), "{}", setting.name);
            for alias in setting.aliases {
                assert!(seen.insert((*alias).to_owned()), "{alias}");
            }
        }
    }

    #[test]
    fn bad_values_are_named_with_what_was_expected() {
        let check = |name: &str, text: &str, expected: &str| {
            assert_eq!(
                find(name).unwrap().parse(text).unwrap_err(),
                expected,
                "{name}={text}"
            );
        };
        check(
            "server.port",
            "http",
            "must be a whole number from 0 to 65535, not \"http\"",
        );
        check(
            "server.port",
            "65536",
            "must be a whole number from 0 to 65535, not 65536",
        );
        check(
            "server.port",
            "",
            "must be a whole number from 0 to 65535, not \"\"",
        );
        check(
            "plugins.watch",
            "maybe",
            "must be true or false, not \"maybe\"",
        );
        check(
            "log.format",
            "xml",
            "must be one of auto, pretty, json, not \"xml\"",
        );
        check(
            "server.body_limit",
            "16 MB",
            "must be a number of bytes such as 4096, 64 KiB or 16 MiB, not \"16 MB\"",
        );
        check(
            "server.body_limit",
            "3 GiB",
            "must be from 1 KiB to 2 GiB, not \"3 GiB\"",
        );
        check(
            "server.request_timeout",
            "0s",
            "must be at least 100ms, not \"0s\"",
        );
        check(
            "server.request_timeout",
            "-1",
            "must be a length of time such as 500ms, 30s, 5m, 12h or 7d, not \"-1\"",
        );
    }

    #[test]
    fn a_bad_secret_is_not_repeated() {
        let message = find("server.secret")
            .unwrap()
            .parse("pass word")
            .unwrap_err();
        assert!(!message.contains("word"), "{message}");
    }
}
