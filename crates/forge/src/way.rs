//! The way to a server: straight, or by a tunnel (CONNECT, RFC 9110, section 9.3.6) through the proxy that the settings
//! name, whether TLS is spoken in it or not.
//!
//! hyper-util has a connector for tunnels. It does not say with which status a proxy refuses, which decides what is to be
//! done, and has no time limit.

use std::{error::Error, time::Duration};

use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http1, upgrade};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use settings::Proxy;
use tokio::{net::TcpStream, time::timeout};
use tower::ServiceExt;

use super::https::chain;

/// How long a proxy may take to make a tunnel: it connects to the server meanwhile.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection.
pub(super) type Stream = TokioIo<TcpStream>;
type AnyError = Box<dyn Error + Send + Sync>;

/// Connects to the server of a URL.
pub(super) async fn connect(tcp: HttpConnector, proxy: Option<Proxy>, to: Uri) -> Result<Stream, AnyError> {
    let host = to.host().unwrap_or_default();
    let Some(proxy) = proxy.filter(|proxy| proxy.is_for(host)) else { return Ok(tcp.oneshot(to).await?) };
    let url = proxy.url();
    let stream = tcp.oneshot(url.parse()?).await.map_err(|error| {
        let why = chain(&error);
        format!("the proxy {url} cannot be reached: {why}. Remedy: see whether it runs, or correct proxy.url")
    })?;
    let usual = if to.scheme_str() == Some("http") { 80 } else { 443 };
    let server = format!("{host}:{}", to.port_u16().unwrap_or(usual));
    match timeout(TUNNEL_TIMEOUT, tunnel(stream, &server)).await {
        Ok(Ok(Ok(stream))) => Ok(stream),
        Ok(Ok(Err(status))) => {
            let remedy = remedy(status, &server);
            Err(format!("the proxy {url} refuses the way to {server} with {status}. Remedy: {remedy}").into())
        }
        Ok(Err(error)) => Err(format!("the proxy {url} makes no way to {server}: {}", chain(&*error)).into()),
        Err(_) => {
            let seconds = TUNNEL_TIMEOUT.as_secs();
            Err(format!("the proxy {url} made no way to {server} within {seconds} s. Remedy: see its log").into())
        }
    }
}

/// What to do where a proxy answers so.
fn remedy(status: StatusCode, server: &str) -> String {
    match status.as_u16() {
        407 => "let the proxy know this host by its address; users and passwords are not supported".to_owned(),
        502..=504 => format!("see whether the proxy itself reaches {server}; its log says why not"),
        _ => format!("let the proxy connect this host to {server}"),
    }
}

/// Asks the proxy at the other end for a tunnel to this server: it, or the status with which the proxy refuses.
async fn tunnel(stream: Stream, server: &str) -> Result<Result<Stream, StatusCode>, AnyError> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It ends with the sender. What ends it before shows in the answer.
    tokio::spawn(connection.with_upgrades());
    let request = Request::connect(server).header(header::HOST, server).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Ok(Err(answer.status()));
    }
    let parts = upgrade::on(answer).await?.downcast::<Stream>().map_err(|_| "it is another connection")?;
    // Of either protocol the server waits for the client's word.
    if parts.read_buf.is_empty() { Ok(Ok(parts.io)) } else { Err("it sends what nobody asked for".into()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use http::{HeaderMap, Method};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        Https,
        wire::{Answer, NoAnswer, Request, Wire},
    };

    async fn listen() -> (TcpListener, Proxy) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, port) = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port());
        (listener, Proxy { host: address.to_string(), port, address, except: Vec::new() })
    }

    /// Reads a request, and answers it.
    async fn answer(stream: &mut TcpStream, answer: &str) -> String {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    async fn get(proxy: &Proxy, url: &str) -> Result<Answer, NoAnswer> {
        let request = Request {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            timeout: Duration::from_secs(60),
        };
        Https::new(Some(proxy)).unwrap().send(request).await
    }

    #[tokio::test]
    async fn a_server_is_asked_in_the_tunnel_by_the_name_that_only_the_proxy_finds() {
        let (listener, proxy) = listen().await;
        let serve = async {
            let mut stream = listener.accept().await.unwrap().0;
            let asked = answer(&mut stream, "HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r\n").await;
            (asked, answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await)
        };
        let ((tunnel, request), got) = tokio::join!(serve, get(&proxy, "http://forge.invalid/x"));
        assert!(tunnel.starts_with("CONNECT forge.invalid:80 HTTP/1.1\r\nhost: forge.invalid:80\r\n"), "{tunnel}");
        assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
        assert!(!tunnel.contains("uthorization"), "{tunnel}");
        assert_eq!(got.unwrap().body, b"hi");
    }

    #[tokio::test]
    async fn a_refusal_names_the_proxy_the_server_and_the_remedy() {
        for (status, remedy) in [
            ("407 Proxy Authentication Required", "let the proxy know this host by its address"),
            ("403 Forbidden", "let the proxy connect this host to forge.invalid:443"),
            ("502 Bad Gateway", "see whether the proxy itself reaches forge.invalid:443"),
            ("503 Service Unavailable", "see whether the proxy itself reaches forge.invalid:443"),
        ] {
            let (listener, proxy) = listen().await;
            let refusal = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nno.");
            let serve = async { answer(&mut listener.accept().await.unwrap().0, &refusal).await };
            let (_, got) = tokio::join!(serve, get(&proxy, "https://forge.invalid/"));
            let said = got.unwrap_err().0;
            let expected = format!("the proxy {} refuses the way to forge.invalid:443 with {status}", proxy.url());
            assert!(said.contains(&expected) && said.contains(&format!("Remedy: {remedy}")), "{said}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_away_hangs_up_or_talks_nonsense_is_named() {
        let (listener, proxy) = listen().await;
        for nonsense in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\n\r\nhello"] {
            let serve = async { answer(&mut listener.accept().await.unwrap().0, nonsense).await };
            let (_, got) = tokio::join!(serve, get(&proxy, "https://forge.invalid/"));
            let said = got.unwrap_err().0;
            assert!(said.contains(&format!("the proxy {} makes no way", proxy.url())), "{nonsense:?}: {said}");
        }
        drop(listener);
        let said = get(&proxy, "https://forge.invalid/").await.unwrap_err().0;
        assert!(said.contains(&format!("the proxy {} cannot be reached", proxy.url())), "{said}");
        assert!(said.contains("Remedy: ") && said.contains("proxy.url"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_is_silent_is_not_waited_for_longer_than_its_limit() {
        let (listener, proxy) = listen().await;
        let begun = tokio::time::Instant::now();
        let silent = async { listener.accept().await.unwrap().0 };
        let (_stream, got) = tokio::join!(silent, get(&proxy, "https://forge.invalid/"));
        let said = got.unwrap_err().0;
        assert!(said.contains("made no way to forge.invalid:443 within 20 s"), "{said}");
        assert!(begun.elapsed() < TUNNEL_TIMEOUT * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn what_is_excepted_is_connected_to_straight() {
        let (listener, _) = listen().await;
        let at = listener.local_addr().unwrap();
        // Nobody is there.
        let nowhere = Proxy { host: "127.0.0.1".into(), port: 9, address: Ipv4Addr::LOCALHOST, except: Vec::new() };
        let serve = async {
            answer(&mut listener.accept().await.unwrap().0, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
        };
        let url = format!("http://{at}/");
        let (request, got) = tokio::join!(serve, get(&nowhere, &url));
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
        assert_eq!(got.unwrap().status, 200);
    }
}
