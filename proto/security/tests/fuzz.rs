//! Names, certificates and files of tokens under fire: see package `fuzz`.

use fuzz::Target;
use security::{
    Kind, Name,
    access::bearer,
    audit,
    issue::{Authority, Validity},
    tokens,
};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn fuzz_names() {
    let known = [
        "holdfast://shop/node/3",
        "holdfast://shop-eu.1/operator/ada_l",
        "Bearer holdfast_00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ];
    let words = ["holdfast://", "/", "node", "api", "Bearer ", "-"];
    Target::new("names", PACKAGE)
        .known(known)
        .words(words)
        .run(|bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return "no text".to_owned();
            };
            assert_eq!(audit::trace_id(Some(text)).len(), 32);
            match text.parse::<Name>() {
                Ok(name) => {
                    assert_eq!(name.to_string(), text, "one name is written in one way");
                    format!("{} {}", name.kind(), name.node_id().is_some())
                }
                Err(error) => format!("{:?} {}", std::mem::discriminant(&error), bearer(text).is_some()),
            }
        });
}

#[test]
fn fuzz_certificates() {
    let authority = Authority::new("shop", Validity::days(30)).unwrap();
    let certificate = |kind, id| {
        let name = Name::new("shop", kind, id).unwrap();
        let hosts = ["localhost".to_owned(), "::1".to_owned()];
        let issued = authority.issue(&name, &hosts, Validity::days(30)).unwrap();
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes())
            .unwrap()
            .to_vec()
    };
    let known = [certificate(Kind::Node, "3"), certificate(Kind::Operator, "ada")];
    Target::new("certificates", PACKAGE)
        .known(known)
        .run(|bytes| match Name::in_certificate(bytes) {
            Ok(name) => name.kind().to_string(),
            Err(error) => error.to_string(),
        });
}

#[test]
fn fuzz_tokens_file() {
    let (_, ada) = tokens::new_token("ada", Kind::Operator).unwrap();
    let (_, bob) = tokens::new_token("bob", Kind::Api).unwrap();
    let words = ["[[token]]", "name = ", "role = ", "sha256 = ", "\"", "node", "\n"];
    Target::new("tokens_file", PACKAGE)
        .known([ada.clone(), format!("{ada}{bob}")])
        .words(words)
        .run(|bytes| match tokens::check(&String::from_utf8_lossy(bytes)) {
            Ok(count) => format!("{} tokens", "x".repeat(count.min(4))),
            Err(error) => error.lines().last().unwrap_or_default().to_owned(),
        });
}
