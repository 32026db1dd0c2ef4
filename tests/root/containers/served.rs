//! A server in the lab's internet that has files, and a record of who asked for what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::{Place, Running};

use crate::host::Host;

/// A file's name is its path, with `_` for each `/`.
const SERVER: &str = r#"
use IO::Socket::INET;
$SIG{CHLD} = "IGNORE";
my $s = IO::Socket::INET->new(Listen => 20, LocalPort => 5000, ReuseAddr => 1) or die;
while (my $c = $s->accept) {
    next if fork;
    my ($method, $path) = split ' ', scalar <$c>;
    while (<$c>) { last if /^\r?\n$/ }
    $path =~ s/\?.*//;
    open my $log, '>>', $ARGV[1]; syswrite $log, "$method $path\n";
    $path =~ s{/}{_}g;
    my $type = $path =~ /manifests/ ? 'vnd.docker.distribution.manifest.v2+json' : 'octet-stream';
    my ($code, $body) = ('404 Not Found', '');
    if (open my $file, '<', "$ARGV[0]/$path") { local $/; ($code, $body) = ('200 OK', scalar <$file> // '') }
    print $c "HTTP/1.1 $code\r\nContent-Type: application/$type\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n";
    print $c $body unless $method eq 'HEAD';
    exit;
}
"#;

/// A running server. Dropping it ends it.
pub struct Served {
    log: PathBuf,
    _running: Running,
}

impl Served {
    /// Where it listens.
    pub fn at() -> String {
        format!("{}:5000", Place::Internet.address())
    }

    /// Starts it, and waits until it answers the host.
    pub fn start(host: &Host, files: &Path) -> Self {
        let log = host.lab.shared().join("served.log");
        fs::write(&log, "").unwrap();
        let [files, asked] = [files, &log].map(|path| path.to_str().unwrap());
        let running = host.lab.spawn_in(Place::Internet, &["perl", "-e", SERVER, files, asked]).unwrap();
        let answers = format!(
            "for _ in $(seq 100); do curl --silent --output /dev/null http://{}/ && exit; sleep 0.05; done; exit 1",
            Self::at()
        );
        host.lab.shell(&answers).unwrap();
        Self { log, _running: running }
    }

    /// How often something whose path holds `what` was downloaded.
    pub fn downloads(&self, what: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.starts_with("GET ") && line.contains(what)).count()
    }
}
