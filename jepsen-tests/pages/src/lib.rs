//! What HTML reports share: a frame that needs nothing else, neither network nor script; plots; numbers as people
//! read them.
//!
//! All text goes through a template that escapes it ([`maud`]). Light and dark follow the reader's system, and a
//! phone is as good as a desk. Left out: what a report says and in which order, and the style of that.

pub mod chart;
pub mod words;

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colours, type, tables and plots: every page has them.
const STYLE: &str = include_str!("style.css");

/// A page with everything in it. Its own style adds to what all pages share.
pub fn page(title: &str, style: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing in a report is a script; a browser is told so, in case a name ever got through.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body { (body) }
        }
    }
}
