//! `document`: look at what the doors keep in the store: journals, orders, the ledger, records.
//!
//! Looking only: who writes them knows how, and an operator's hand would not.

use clap::Subcommand;
use client::{Consistency, DocumentList};
use serde_json::Value;

use crate::{
    context::Context,
    exit::{Failure, Subject},
    output,
    views::DocumentView,
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum DocumentCommand {
    /// Show one document
    Get {
        /// Its key
        document: String,
    },
    /// Show the documents whose keys begin alike, in order of keys
    List {
        /// What their keys begin with, as in orders/ [default: all]
        #[arg(default_value = "")]
        prefix: String,
        /// Only keys after this one
        #[arg(long, default_value = "")]
        after: String,
        /// Most documents shown
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}

/// Runs it.
pub async fn run(command: DocumentCommand, context: Context) -> Result<(), Failure> {
    let connection = context.connect()?;
    match command {
        DocumentCommand::Get { document } => {
            let answer = connection
                .client
                .get_document(document.clone(), Consistency::Linearizable)
                .await;
            let subject = Subject::read(format!("read document `{document}`"));
            let Some(found) = connection.told(subject, answer).await? else {
                return Err(Failure::Failed(format!(
                    "there is no document `{document}`; `holdfast document list` shows those that exist"
                )));
            };
            let view = DocumentView {
                document,
                version: found.version,
                fencing_token: found.fencing_token,
                leased_until_ms: found.leased_until_ms,
                expires_at_ms: found.expires_at_ms,
                body: Some(body(&found.body)),
            };
            output::print(context.format, &view, |view| {
                let text = match &view.body {
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => format!("{value:#}"),
                    None => String::new(),
                };
                output::fields([
                    ("document", view.document.clone()),
                    ("version", view.version.to_string()),
                    ("lease", lease(view)),
                    ("ends", end(view)),
                    ("body", text),
                ])
            })
        }
        DocumentCommand::List { prefix, after, limit } => {
            let subject = Subject::read(format!("list documents `{prefix}`"));
            let (mut views, mut after, mut more) = (Vec::new(), after, true);
            while more && views.len() < limit as usize {
                let left = limit - views.len() as u32;
                let answer = connection
                    .client
                    .list_document_keys(prefix.clone(), after.clone(), left, Consistency::Linearizable)
                    .await;
                let list: DocumentList = connection.told(subject.clone(), answer).await?;
                more = list.more;
                views.extend(list.documents.into_iter().map(|found| DocumentView {
                    document: String::from_utf8_lossy(&found.key).into_owned(),
                    version: found.version,
                    fencing_token: found.fencing_token,
                    leased_until_ms: found.leased_until_ms,
                    expires_at_ms: found.expires_at_ms,
                    body: None,
                }));
                match views.last() {
                    Some(last) => after.clone_from(&last.document),
                    None => break,
                }
            }
            let value = serde_json::json!({ "documents": views, "more": more });
            output::print(context.format, &value, |_| {
                let mut table = output::table(&["DOCUMENT", "VERSION", "LEASE", "ENDS"]);
                for view in &views {
                    table.add_row([
                        view.document.clone(),
                        view.version.to_string(),
                        lease(view),
                        end(view),
                    ]);
                }
                table
            })
        }
    }
}

/// A body as it can be shown: JSON as it is, else as text.
fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn lease(view: &DocumentView) -> String {
    if view.fencing_token == 0 {
        return "-".to_owned();
    }
    format!(
        "token {} until log time {} ms",
        view.fencing_token, view.leased_until_ms
    )
}

fn end(view: &DocumentView) -> String {
    match view.expires_at_ms {
        0 => "-".to_owned(),
        at_ms => format!("log time {at_ms} ms"),
    }
}
