//! Attention and evidence become tables: links, recovery, regulation, comparisons, exports, partners.

#[path = "../common/mod.rs"]
mod common;

mod comparisons;
mod discover;
mod evidence;
mod exports;
mod known;
mod links;
mod matching;
mod regulation;
