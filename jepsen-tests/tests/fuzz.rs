//! Histories of others, under fire: see package `fuzz`. A reviewer's file must not take the checker down.

use std::io::Cursor;

use fuzz::Target;
use jepsen_tests::history::History;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn fuzz_histories() {
    let header = "{\"ty\":\"header\",\"schema\":\"inventory-history/1\",\"ttl_ms\":150,\"sales\":{\"s0\":40},\"time_unit\":\"ns\"}\n";
    let events = [
        "{\"t\":1,\"ty\":\"invoke\",\"id\":1,\"p\":1,\"f\":\"claim\",\"sale\":\"s0\",\"user\":\"u\",\"key\":\"k\"}\n",
        "{\"t\":2,\"ty\":\"ok\",\"id\":1,\"p\":1,\"idx\":[5,0],\"lt\":9,\"res\":\"granted\",\"hold\":\"h\",\"deadline\":159}\n",
        "{\"t\":3,\"ty\":\"invoke\",\"id\":2,\"p\":1,\"f\":\"confirm\",\"sale\":\"s0\",\"hold\":\"h\",\"key\":\"k2\"}\n",
        "{\"t\":4,\"ty\":\"info\",\"id\":2,\"err\":\"timeout\"}\n",
        "{\"t\":5,\"ty\":\"fault\",\"name\":\"kill\",\"node\":\"n1\",\"phase\":\"start\"}\n",
        "{\"t\":6,\"ty\":\"resolve\",\"id\":2,\"applied\":false}\n",
    ];
    let known = [
        format!("{header}{}", events.concat()),
        format!("{header}{}", events[0]),
    ];
    let words = [
        "\"res\":\"sold_out\"",
        "\"idx\":[18446744073709551615,4294967295]",
        "-1",
        "null",
        "\n",
        "{}",
        "\"f\":\"read\"",
    ];
    Target::new("histories", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| {
            match History::read(Cursor::new(bytes.to_vec())) {
                Ok(history) => {
                    // What was read can be written, and says the same when it is read again.
                    let mut text = Vec::new();
                    history.write(&mut text).unwrap();
                    let again = History::read(Cursor::new(text)).unwrap();
                    assert_eq!(again.operations(), history.operations());
                    "read".to_owned()
                }
                Err(error) => error.to_string(),
            }
        });
}
