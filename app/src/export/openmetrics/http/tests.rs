use super::*;
use crate::export::openmetrics::Limits;
use crate::model::testing::sample_tick;
use std::io::{Read, Write};

fn page() -> Page {
    let page = Page::new(Metrics::new(Session::default(), Limits::LIVE));
    page.tick(sample_tick(), None);
    page
}

/// Serves on a port that the system chooses, and asks.
fn serving<T>(ask: impl FnOnce(SocketAddr) -> T) -> T {
    let listener = Listener::open(address("127.0.0.1:0").unwrap()).unwrap();
    let address = listener.address();
    listener.serve(page()).unwrap();
    ask(address)
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{more}\r\n")
}

#[test]
fn each_client_gets_the_dialect_that_it_reads() {
    let (old, open) = serving(|address| {
        let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
        (ask(address, &get(PATH, "")), ask(address, &get(PATH, open)))
    });
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n"), "{old}");
    assert!(old.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{old}");
    assert!(old.contains("# TYPE kvmscope_exits_total counter\n") && !old.contains("# EOF"));
    assert!(
        open.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    assert!(open.ends_with("# EOF\n"), "{open}");
    let sample = "kvmscope_exits_total{vm=\"web-7\",vcpu=\"0\",reason=\"0x20\"} 3\n";
    assert!(open.contains(sample) && old.contains(sample), "{open}");
}

#[test]
fn what_is_not_there_is_said() {
    let (root, none, post, head) = serving(|address| {
        (
            ask(address, &get("/", "")),
            ask(address, &get("/etc/passwd", "")),
            ask(
                address,
                "POST /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            ),
            ask(address, "HEAD /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"),
        )
    });
    assert!(root.contains("200 OK") && root.ends_with("metrics are at /metrics\n"), "{root}");
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    assert!(post.starts_with("HTTP/1.1 405") && post.to_lowercase().contains("allow: get, head"));
    assert!(head.contains("200 OK") && head.ends_with("\r\n\r\n"), "no body: {head}");
}

/// Clients that say nothing take no place from those that ask, up to a bound.
#[test]
fn silent_clients_do_not_stop_others() {
    let said = serving(|address| {
        let silent: Vec<_> = (0..CONNECTIONS - 1)
            .map(|_| std::net::TcpStream::connect(address).expect("connects"))
            .collect();
        let said = ask(address, &get(PATH, ""));
        drop(silent);
        said
    });
    assert!(said.contains("kvmscope_build_info"), "{said}");
}

#[test]
fn a_text_is_made_once_for_a_tick() {
    let page = page();
    let first = page.text(Dialect::OpenMetrics);
    assert_eq!(first.as_ptr(), page.text(Dialect::OpenMetrics).as_ptr());
    let mut next = sample_tick();
    next.seq += 1;
    page.tick(next, None);
    let second = page.text(Dialect::OpenMetrics);
    assert!(std::str::from_utf8(&second).unwrap().contains("kvmscope_ticks_total 2\n"));
}

#[test]
fn one_vm_alone_can_be_watched() {
    let page = Page::new(Metrics::new(Session::default(), Limits::LIVE));
    page.tick(sample_tick(), Some("web-8"));
    let text = String::from_utf8(page.text(Dialect::OpenMetrics).to_vec()).unwrap();
    assert!(text.contains("kvmscope_ticks_total 1\n") && !text.contains("vm=\""), "{text}");
}

#[test]
fn addresses_are_loopback_unless_named() {
    let of = |text: &str| address(text).map(|address| address.to_string());
    for (text, meant) in [
        ("9100", "127.0.0.1:9100"),
        (":9100", "127.0.0.1:9100"),
        ("127.0.0.1", "127.0.0.1:19972"),
        ("localhost", "127.0.0.1:19972"),
        ("localhost:80", "127.0.0.1:80"),
        ("0.0.0.0:9", "0.0.0.0:9"),
        ("::1", "[::1]:19972"),
        ("[::1]", "[::1]:19972"),
        ("[::1]:77", "[::1]:77"),
        ("10.1.2.3", "10.1.2.3:19972"),
    ] {
        assert_eq!(of(text).as_deref(), Ok(meant), "{text}");
    }
    for wrong in ["", "host", "host:80", "1.2.3", "127.0.0.1:99999", "70000", "a b", "run.kvs"] {
        assert!(of(wrong).is_err_and(|why| why.contains("is expected")), "{wrong}");
    }
    assert!(is_open(address("0.0.0.0").unwrap()) && is_open(address("[::]:1").unwrap()));
    assert!(!is_open(address("::1").unwrap()) && !is_open(address("127.9.9.9").unwrap()));
    assert!(!is_open(address("[::ffff:127.0.0.1]:1").unwrap()));
}

#[test]
fn a_busy_port_is_said_plainly() {
    let first = Listener::open(address("0").unwrap()).unwrap();
    let taken = first.address();
    let why = Listener::open(taken).expect_err("taken");
    assert!(why.starts_with(&format!("{taken} is in use by another program")), "{why}");
    let why = Listener::open(address("203.0.113.7:8000").unwrap()).expect_err("not ours");
    assert!(why.starts_with("203.0.113.7 is no address of this host"), "{why}");
}

/// A whole answer for a thousand vCPUs with eleven reasons each, made anew and carried over loopback, in less than
/// 50 ms; builds that are not optimised get twenty times as long.
#[test]
fn a_thousand_vcpus_are_told_of_quickly() {
    use crate::source::synth::{Generator, plan::Plan};
    use std::time::Instant;
    let session = Session::default();
    let mut generator = Generator::new(Plan::uniform(50, 20, 11, 1), 1, &session);
    let page = Page::new(Metrics::new(session, Limits::LIVE));
    let listener = Listener::open(address("127.0.0.1:0").unwrap()).unwrap();
    let address = listener.address();
    listener.serve(page.clone()).unwrap();
    let mut best = Duration::MAX;
    let mut lines = 0;
    for _ in 0..5 {
        page.tick(generator.tick(Duration::from_secs(1)), None);
        let began = Instant::now();
        let answer = ask(address, &get(PATH, "Accept: application/openmetrics-text\r\n"));
        best = best.min(began.elapsed());
        assert!(answer.ends_with("# EOF\n"));
        lines = answer.lines().count();
    }
    // 11 counts, 9 states and two kinds of wake-ups of each vCPU, and histograms.
    assert!(lines > 22_000, "{lines}");
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 50 });
    println!("{lines} lines in {best:?}");
    assert!(best < bound, "{lines} lines in {best:?}");
}
