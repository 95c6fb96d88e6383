//! Handshakes in memory: who is let in, who is not, and what both sides are told.

use std::{io, path::Path, sync::Arc};

use security::{
    Expect, Kind, Name, Tls, TlsFiles,
    issue::{Authority, Validity},
    tls::{Callers, EXPIRY_WARNING_S},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const DAYS: Validity = Validity {
    from_days: -1,
    to_days: 90,
};

/// An authority, and files of what it issued.
struct Shop {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop {
            authority: Authority::new("shop", DAYS).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        shop.authority.keep(shop.dir.path()).unwrap();
        shop
    }

    fn issue(&self, stem: &str, name: &str, validity: Validity) -> TlsFiles {
        let name: Name = name.parse().unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued = self.authority.issue(&name, &hosts, validity).unwrap();
        issued.keep(self.dir.path(), stem).unwrap()
    }

    fn holder(&self, name: &str) -> Arc<Tls> {
        let stem = name.rsplit('/').next().unwrap();
        Tls::load(self.issue(stem, name, DAYS), Callers::Certified).unwrap()
    }
}

/// What the caller's side and the answering side make of a connection that carries one byte each way.
async fn shake(caller: &Tls, node: &Tls, expect: Expect) -> (io::Result<u8>, io::Result<Option<Name>>) {
    let (near, far) = duplex(64 << 10);
    let calling = async {
        let mut stream = caller.connect(near, expect).await?;
        stream.write_all(b"?").await?;
        stream.read_u8().await
    };
    let answering = async {
        let (mut stream, name) = node.accept(far).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        assert_eq!(stream.read_u8().await?, b'?');
        Ok(name)
    };
    tokio::join!(calling, answering)
}

fn said<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn nodes_and_operators_of_one_cluster_know_one_another() {
    let shop = Shop::new();
    let (one, two) = (
        shop.holder("holdfast://shop/node/1"),
        shop.holder("holdfast://shop/node/2"),
    );
    let ada = shop.holder("holdfast://shop/operator/ada");
    let (answer, caller) = shake(&one, &two, Expect::Node(2)).await;
    assert_eq!(answer.unwrap(), b'!');
    assert_eq!(caller.unwrap().unwrap().node_id(), Some(1));
    let (answer, caller) = shake(&ada, &one, Expect::AnyNode).await;
    assert_eq!(answer.unwrap(), b'!');
    assert_eq!(caller.unwrap().unwrap().kind(), Kind::Operator);
}

#[tokio::test]
async fn the_wrong_node_or_none_is_noticed_by_who_calls() {
    let shop = Shop::new();
    let (one, two) = (
        shop.holder("holdfast://shop/node/1"),
        shop.holder("holdfast://shop/node/2"),
    );
    let ada = shop.holder("holdfast://shop/operator/ada");
    let (answer, _) = shake(&one, &two, Expect::Node(3)).await;
    let text = said(answer);
    assert!(
        text.contains("shop/node/2") && text.contains("node 3 was expected"),
        "{text}"
    );
    // An operator's certificate is not one to answer with at all.
    let (answer, _) = shake(&one, &ada, Expect::AnyNode).await;
    assert!(answer.is_err());
}

#[tokio::test]
async fn other_authorities_other_clusters_and_ended_certificates_are_refused_in_the_handshake() {
    let (shop, other) = (Shop::new(), Shop::new());
    let node = shop.holder("holdfast://shop/node/1");
    let stranger = Tls::load(
        TlsFiles {
            authority: shop.dir.path().join("ca.pem"),
            ..other.issue("mallory", "holdfast://shop/operator/mallory", DAYS)
        },
        Callers::Certified,
    )
    .unwrap();
    let neighbour = shop.issue("neighbour", "holdfast://market/operator/bob", DAYS);
    let neighbour = Tls::load(neighbour, Callers::Certified).unwrap();
    let ended = Validity {
        from_days: -9,
        to_days: -1,
    };
    let late = shop.issue("late", "holdfast://shop/operator/late", ended);
    let late = Tls::load(late, Callers::Certified).unwrap();
    for (who, caller) in [("stranger", &stranger), ("late", &late)] {
        let (answer, taken) = shake(caller, &node, Expect::AnyNode).await;
        let text = said(answer);
        assert!(text.contains("does not accept our certificate"), "{who}: {text}");
        assert!(taken.is_err(), "{who}");
    }
    // Who is of another cluster sees that himself, and turns away first.
    let (answer, taken) = shake(&neighbour, &node, Expect::AnyNode).await;
    assert!(said(answer).contains("another cluster"));
    assert!(taken.is_err());
    // A node whose certificate has ended is believed by nobody.
    let old = shop.issue("old", "holdfast://shop/node/4", ended);
    let old = Tls::load(old, Callers::Certified).unwrap();
    let (answer, _) = shake(&node, &old, Expect::Node(4)).await;
    assert!(answer.is_err());
}

#[tokio::test]
async fn without_a_certificate_only_where_tokens_are_taken() {
    let shop = Shop::new();
    let files = shop.issue("n", "holdfast://shop/node/1", DAYS);
    let roots = {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&files.authority).unwrap())
            .unwrap();
        roots
    };
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let config = Arc::new(config);
    for (callers, welcome) in [(Callers::Certified, false), (Callers::CertifiedOrToken, true)] {
        let node = Tls::load(files.clone(), callers).unwrap();
        let (near, far) = duplex(64 << 10);
        let calling = async {
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
            // As any other tool would: by the host's name, which the certificate has, too.
            let mut stream = connector.connect("localhost".try_into().unwrap(), near).await?;
            stream.read_u8().await
        };
        let answering = async {
            let (mut stream, name) = node.accept(far).await?;
            assert_eq!(name, None);
            stream.write_all(b"!").await?;
            stream.flush().await
        };
        let (answer, taken): (io::Result<u8>, io::Result<()>) = tokio::join!(calling, answering);
        assert_eq!(
            (answer.is_ok(), taken.is_ok()),
            (welcome, welcome),
            "{callers:?} {answer:?} {taken:?}"
        );
    }
}

#[tokio::test]
async fn new_certificates_count_without_a_restart_and_wrong_ones_do_not() {
    let shop = Shop::new();
    let ended = Validity {
        from_days: -9,
        to_days: -1,
    };
    let files = shop.issue("one", "holdfast://shop/node/1", ended);
    let one = Tls::load(files.clone(), Callers::Certified).unwrap();
    let ada = shop.holder("holdfast://shop/operator/ada");
    assert!(
        shake(&ada, &one, Expect::Node(1)).await.0.is_err(),
        "it has ended"
    );
    assert!(!one.refresh().unwrap(), "nothing has changed");

    // Another name, and a key that is not its own: what was there goes on counting.
    shop.issue("one", "holdfast://shop/node/2", DAYS);
    let text = one.refresh().unwrap_err().to_string();
    assert!(
        text.contains("shop/node/2") && text.contains("shop/node/1"),
        "{text}"
    );
    let key = std::fs::read(&files.key).unwrap();
    shop.issue("one", "holdfast://shop/node/1", DAYS);
    std::fs::write(&files.key, key).unwrap();
    let text = one.refresh().unwrap_err().to_string();
    assert!(text.contains("one.key"), "{text}");
    assert!(shake(&ada, &one, Expect::Node(1)).await.0.is_err());

    shop.issue("one", "holdfast://shop/node/1", DAYS);
    assert!(one.refresh().unwrap());
    assert_eq!(shake(&ada, &one, Expect::Node(1)).await.0.unwrap(), b'!');
}

#[test]
fn what_ends_soon_is_warned_about() {
    let shop = Shop::new();
    let one = shop.holder("holdfast://shop/node/1");
    let (own_s, authority_s) = one.ends_s();
    assert!(one.expiry_warnings(own_s - EXPIRY_WARNING_S - 1).is_empty());
    let soon = one.expiry_warnings(own_s - EXPIRY_WARNING_S + 60);
    assert!(
        soon[0].contains("1.pem") && soon[0].contains("13 days"),
        "{soon:?}"
    );
    let over = one.expiry_warnings(own_s.max(authority_s));
    assert!(over.len() == 2 && over[0].contains("has ended"), "{over:?}");
}

#[test]
fn files_that_cannot_be_are_named() {
    let shop = Shop::new();
    let good = shop.issue("one", "holdfast://shop/node/1", DAYS);
    let wrong = |files: TlsFiles| Tls::load(files, Callers::Certified).unwrap_err().to_string();
    let nowhere = Path::new("/nowhere/x.pem").to_owned();
    for files in [
        TlsFiles {
            authority: nowhere.clone(),
            ..good.clone()
        },
        TlsFiles {
            certificate: nowhere.clone(),
            ..good.clone()
        },
        TlsFiles {
            key: nowhere.clone(),
            ..good.clone()
        },
    ] {
        assert!(wrong(files).contains("/nowhere/x.pem"));
    }
    let swapped = TlsFiles {
        key: good.certificate.clone(),
        ..good.clone()
    };
    assert!(wrong(swapped).contains("one.pem"));
    // The authority's own certificate names nobody.
    let nobody = TlsFiles {
        certificate: good.authority.clone(),
        ..good.clone()
    };
    assert!(wrong(nobody).contains("0 names"));
}

#[test]
fn an_authority_can_be_taken_up_again() {
    let first = Authority::new("shop", DAYS).unwrap();
    let again = Authority::from_pem(first.certificate_pem(), &first.key_pem()).unwrap();
    let name: Name = "holdfast://shop/node/9".parse().unwrap();
    let issued = again.issue(&name, &[], DAYS).unwrap();
    let dir = tempfile::tempdir().unwrap();
    first.keep(dir.path()).unwrap();
    let files = issued.keep(dir.path(), "9").unwrap();
    assert_eq!(Tls::load(files, Callers::Certified).unwrap().name(), name);
}
