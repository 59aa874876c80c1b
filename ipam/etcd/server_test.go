package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// program is where Debian's etcd-server installs it.
const program = "/usr/bin/etcd"

// server is a real etcd of one member on loopback.
type server struct {
	t        *testing.T
	endpoint string // host:port
	args     []string
	dir      string
	cmd      *exec.Cmd
	tls      *tls.Config // of a client; nil: plain
}

// startServer starts etcd; secure: with TLS and certificates asked of clients.
func startServer(t *testing.T, secure bool) *server {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs program: etcd (Debian package etcd-server)")
	}
	s := &server{t: t, dir: t.TempDir(), endpoint: freePort(t)}
	scheme := "http"
	if secure {
		scheme = "https"
		files := certificates(t)
		s.args = []string{"--cert-file", files.cert, "--key-file", files.key, "--trusted-ca-file", files.ca, "--client-cert-auth"}
		s.tls = files.config(t)
	}
	peer := "http://" + freePort(t)
	s.args = append(s.args, "--data-dir", filepath.Join(s.dir, "data"), "--unsafe-no-fsync",
		"--listen-client-urls", scheme+"://"+s.endpoint, "--advertise-client-urls", scheme+"://"+s.endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if out, err := exec.Command(program, "--help").CombinedOutput(); err != nil || !contains(out, "unsafe-no-fsync") {
		s.args = without(s.args, "--unsafe-no-fsync") // of 3.5 and later
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func contains(text []byte, word string) bool {
	for i := range text {
		if len(text)-i >= len(word) && string(text[i:i+len(word)]) == word {
			return true
		}
	}
	return false
}

func without(list []string, word string) []string {
	var out []string
	for _, s := range list {
		if s != word {
			out = append(out, s)
		}
	}
	return out
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "etcd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(program, s.args...)
	s.cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.admin()
	defer c.Close() //nolint:errcheck // a test's client
	for end := time.Now().Add(30 * time.Second); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := c.Get(ctx, "up")
		cancel()
		if err == nil || isDenied(err) {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			s.t.Fatalf("etcd does not answer: %v\n%s", err, text)
		}
	}
}

// isDenied reports that the server answered, if only to refuse.
func isDenied(err error) bool {
	return err != nil && (contains([]byte(err.Error()), "user name is empty") || contains([]byte(err.Error()), "permission denied"))
}

// stop kills the server.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}

// restart kills the server and starts it with the data it had.
func (s *server) restart(t *testing.T) {
	t.Helper()
	s.stop()
	s.start()
}

// admin is a client of the test itself.
func (s *server) admin() *clientv3.Client {
	s.t.Helper()
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{scheme + s.endpoint}, TLS: s.tls, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// prefixes numbers the registries of one server.
var prefixes atomic.Int32

// open returns an empty registry on the server.
func (s *server) open(t *testing.T) *Registry {
	t.Helper()
	return s.openAt(t, fmt.Sprintf("/test%d/", prefixes.Add(1)))
}

func (s *server) openAt(t *testing.T, prefix string) *Registry {
	t.Helper()
	r, err := Open(Config{Endpoints: []string{s.endpoint}, Prefix: prefix, TLS: s.tls})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return r
}

// pair is a certificate for 127.0.0.1, its key and its CA, which is itself.
type pair struct{ cert, key, ca string }

func certificates(t *testing.T) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "onlink"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert := write("node.crt", "CERTIFICATE", der)
	return pair{cert: cert, key: write("node.key", "PRIVATE KEY", raw), ca: cert}
}

func (p pair) config(t *testing.T) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}
}
