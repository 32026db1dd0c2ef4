//! The real wire over TLS, from the registration token to a registered runner: what the host trusts is trusted, a CA of
//! one's own included, and nothing else is.
//!
//! Root certificates are read once for a process, from where the environment says; so each story is a process.

use std::{net::Ipv4Addr, process::Stdio, sync::Arc, time::Duration};

use contract::Grant;
use forge::{
    Https,
    github::{
        Rest, Session,
        scale_set::{JobEvent, ScaleSet, Scope, SetSpec, api_root},
    },
    wire::{Request, Wire},
};
use github_sim::{
    Config, World, server,
    world::{JobSpec, RepoSpec, ScaleSetRules},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use settings::{Proxy, token_file::Token};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// Where the story's GitHub is.
const URL: &str = "TLS_TEST_URL";
/// Port of the proxy that leads there, if any.
const PROXY: &str = "TLS_TEST_PROXY";
const PATIENCE: Duration = Duration::from_secs(30);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A GitHub with one queued job, behind a certificate for `name` of this authority; gives its port. It calls itself so,
/// or localhost with this port.
async fn github(authority: &Authority, name: &str, own_name: Option<&str>) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let (outside, inside) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (port, behind) = (outside.local_addr().unwrap().port(), inside.local_addr().unwrap());
    let scale_sets = ScaleSetRules { poll_hold: Duration::from_secs(2), ..ScaleSetRules::default() };
    let base_url = own_name.map_or_else(|| format!("https://localhost:{port}/"), |name| format!("https://{name}/"));
    let mut world = World::new(Config { base_url, tokens: vec!["t0k".into()], scale_sets, ..Config::default() });
    world.add_repo(&RepoSpec { name: "o/r".into(), private: true }).unwrap();
    world.queue_job(server::now(), "o/r", JobSpec::new("job", &["nix"], &["true"])).unwrap();
    tokio::spawn(server::Shared::new(world).serve_tcp(inside, server::Doors::Public));
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = outside.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who refuses the certificate goes away here.
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// What the story says in a process that trusts this authority and no other.
async fn told(trusted: &Authority, port: u16) -> String {
    story_of(trusted, &format!("https://localhost:{port}/o/r"), None).await
}

async fn story_of(trusted: &Authority, url: &str, proxy: Option<u16>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    let story = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::story", "--ignored", "--nocapture"])
        .env("SSL_CERT_FILE", &roots)
        .env(URL, url)
        .envs(proxy.map(|port| (PROXY, port.to_string())))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(2 * PATIENCE, story).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_github_of_a_private_authority_is_spoken_to_where_the_host_trusts_that_authority() {
    let (ours, other) = (authority("ours"), authority("another"));
    let port = github(&ours, "localhost", None).await;
    let said = told(&ours, port).await;
    assert!(said.contains("registered after a message"), "{said}");

    let said = told(&other, port).await;
    // Both halves: the wire of scale sets, and REST.
    assert_eq!(said.matches("UnknownIssuer").count(), 2, "{said}");
    assert_eq!(said.matches("Remedy: ").count(), 2, "{said}");
    assert!(!said.contains("t0k"), "{said}");

    let somebody_else = github(&ours, "github.example", None).await;
    let said = told(&ours, somebody_else).await;
    assert!(said.contains("refused: ") && said.contains("not valid for name"), "{said}");
}

/// A proxy that leads to this port, whoever is asked for; gives its own, and whom it was asked for.
async fn proxy(to: u16) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                sender.send(String::from_utf8(head).unwrap()).unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_github_that_only_a_proxy_finds_is_spoken_to_through_it_and_the_proxy_sees_no_token() {
    let ours = authority("ours");
    let server = github(&ours, "github.example", Some("github.example")).await;
    let (port, mut asked) = proxy(server).await;
    let said = story_of(&ours, "https://github.example/o/r", Some(port)).await;
    assert!(said.contains("registered after a message"), "{said}");
    let mut tunnels = 0;
    while let Ok(head) = asked.try_recv() {
        assert!(head.starts_with("CONNECT github.example:443 HTTP/1.1\r\n"), "{head}");
        assert_eq!(head.matches("\r\n").count(), 3, "{head}");
        tunnels += 1;
    }
    assert!(tunnels > 0);
}

#[tokio::test]
#[ignore = "a process of the tests above"]
async fn story() {
    let config_url = std::env::var(URL).unwrap();
    let api_url = api_root(&config_url).unwrap();
    let proxy = std::env::var(PROXY).ok().map(|port| Proxy {
        host: "127.0.0.1".into(),
        port: port.parse().unwrap(),
        address: Ipv4Addr::LOCALHOST,
        except: Vec::new(),
    });
    let wire = Https::new(proxy.as_ref()).unwrap();
    let transport = Session::with_token(Rest::new(wire.clone(), &api_url), Token::new("t0k"));
    let spec = SetSpec {
        scope: Scope::of(&config_url).unwrap(),
        config_url,
        api_url,
        set_name: "ours".into(),
        runner_group: None,
        labels: vec!["nix".into()],
        owner_name: "host-1".into(),
    };
    // The wire of its own, not only what stands before it.
    let url = spec.api_url.parse().unwrap();
    let probe = Request { method: http::Method::GET, url, headers: Default::default(), body: None, timeout: PATIENCE };
    if let Err(error) = wire.send(probe).await {
        println!("refused: {error}");
    }
    let set = ScaleSet::new(spec, transport, wire);
    if let Err(error) = set.open().await {
        println!("refused: {error}");
        return;
    }
    let (_capacity, mut receiver) = watch::channel(1);
    for _ in 0..5 {
        let tidings = tokio::time::timeout(PATIENCE, set.listen(&mut receiver)).await.unwrap().unwrap();
        let Some(message) = tidings.message_id else { continue };
        set.acknowledge(message).await;
        if tidings.messages.iter().any(|message| message.event == JobEvent::Assigned) {
            let minted = set.mint("host-1-abc").await.unwrap();
            assert!(matches!(minted.grant, Grant::GithubJit { .. }));
            set.release().await.unwrap();
            println!("registered after a message");
            return;
        }
    }
    panic!("no message");
}
