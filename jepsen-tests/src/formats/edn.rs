//! A reader of EDN, the notation of Clojure's data: as much of it as histories are written in. Numbers stay
//! the text they are, since nobody here calculates with them; tags are read over, and so are metadata.

use std::fmt;

/// Deepest nesting that is read: histories nest three levels.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Edn {
    /// `nil`
    Nil,
    /// A number, character, symbol or boolean, as it is written.
    Atom(String),
    /// `:keyword`, without its colon.
    Keyword(String),
    /// A string, without its quotes.
    Text(String),
    /// `[…]`, `(…)` or `#{…}`.
    List(Vec<(u64, Edn)>),
    /// `{…}`
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// The value of a keyword in a map.
    pub fn get(&self, keyword: &str) -> Option<&Edn> {
        let Edn::Map(entries) = self else { return None };
        entries
            .iter()
            .find(|(key, _)| matches!(key, Edn::Keyword(name) if name == keyword))
            .map(|(_, value)| value)
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Atom(text) => f.write_str(text),
            Edn::Keyword(name) => write!(f, ":{name}"),
            Edn::Text(text) => write!(f, "{text:?}"),
            Edn::List(items) => {
                f.write_str("[")?;
                for (index, (_, item)) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Edn::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Reads one value after the other, and knows on which line it is.
pub struct EdnReader<'a> {
    rest: std::str::Chars<'a>,
    line: u64,
}

impl<'a> EdnReader<'a> {
    /// A reader of this text, whose first line has this number.
    pub fn new(text: &'a str, line: u64) -> EdnReader<'a> {
        EdnReader {
            rest: text.chars(),
            line,
        }
    }

    /// The line of what comes next.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The next value; none at the end.
    ///
    /// # Errors
    /// What comes next is no EDN.
    pub fn next_value(&mut self) -> Result<Option<Edn>, String> {
        self.skip();
        match self.peek() {
            None => Ok(None),
            Some(_) => self.value(0).map(Some),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += u64::from(next == Some('\n'));
        next
    }

    /// White space, commas and comments.
    fn skip(&mut self) {
        while let Some(next) = self.peek() {
            if next == ';' {
                while self.peek().is_some_and(|next| next != '\n') {
                    self.take();
                }
            } else if next.is_whitespace() || next == ',' {
                self.take();
            } else {
                break;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Edn, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX}"));
        }
        self.skip();
        match self
            .peek()
            .ok_or("ends in the middle of a value; the file may be cut off")?
        {
            '[' => self.items(']', depth).map(Edn::List),
            '(' => self.items(')', depth).map(Edn::List),
            '{' => {
                let items = self.items('}', depth)?;
                if items.len() % 2 != 0 {
                    return Err("a map with a key and no value".into());
                }
                let mut items = items.into_iter().map(|(_, item)| item);
                let mut entries = Vec::new();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    entries.push((key, value));
                }
                Ok(Edn::Map(entries))
            }
            '"' => self.text().map(Edn::Text),
            '#' => {
                self.take();
                match self.peek() {
                    Some('{') => self.items('}', depth).map(Edn::List),
                    Some('_') => {
                        self.take();
                        self.value(depth + 1)?;
                        self.value(depth + 1)
                    }
                    // A tag: the value is what it says without it.
                    Some(next) if next.is_alphabetic() => {
                        self.word();
                        self.value(depth + 1)
                    }
                    _ => Err("a `#` that is neither set nor tag".into()),
                }
            }
            ':' => {
                self.take();
                Ok(Edn::Keyword(self.word()))
            }
            '\\' => {
                self.take();
                let first = self.take().ok_or("ends in the middle of a character")?;
                Ok(Edn::Atom(format!("\\{first}{}", self.word())))
            }
            other if other == ']' || other == ')' || other == '}' => {
                Err(format!("a `{other}` that closes nothing"))
            }
            _ => {
                let word = self.word();
                match word.as_str() {
                    "" => Err(format!("`{}` begins no value", self.peek().unwrap_or(' '))),
                    "nil" => Ok(Edn::Nil),
                    _ => Ok(Edn::Atom(word)),
                }
            }
        }
    }

    fn items(&mut self, end: char, depth: usize) -> Result<Vec<(u64, Edn)>, String> {
        self.take();
        let mut items = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                None => return Err(format!("ends before its `{end}`; the file may be cut off")),
                Some(next) if next == end => {
                    self.take();
                    return Ok(items);
                }
                Some(_) => {
                    let line = self.line;
                    items.push((line, self.value(depth + 1)?));
                }
            }
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.take();
        let mut text = String::new();
        loop {
            match self
                .take()
                .ok_or("ends in the middle of a string; the file may be cut off")?
            {
                '"' => return Ok(text),
                '\\' => match self
                    .take()
                    .ok_or("ends in the middle of a string; the file may be cut off")?
                {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
    }

    fn word(&mut self) -> String {
        let ends = |next: char| next.is_whitespace() || ",;\"[](){}".contains(next);
        let mut word = String::new();
        while let Some(next) = self.peek()
            && !ends(next)
        {
            word.push(next);
            self.take();
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Edn>, String> {
        EdnReader::new(text, 1).next_value()
    }

    #[test]
    fn values_of_every_kind_are_read() {
        let text = "; a comment\n#tag {:process 22  :type :invoke, :value [3 nil -1.5] \"a \\\"b\\\"\" #{x} #_gone :z (:c \\d true)}";
        let value = read(text).expect("EDN").expect("a value");
        let expected = r#"{:process 22, :type :invoke, :value [3 nil -1.5], "a \"b\"" [x], :z [:c \d true]}"#;
        assert_eq!(value.to_string(), expected);
    }

    #[test]
    fn what_is_no_edn_is_refused() {
        for text in ["[1 2", "{:a}", "\"abc", "]", "#", "#_", "{:a 1"] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = "[".repeat(10_000);
        assert!(read(&deep).expect_err("too deep").contains("nested"));
        assert_eq!(read("  ; nothing\n"), Ok(None));
    }
}
