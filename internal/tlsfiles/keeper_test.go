package tlsfiles

import (
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// put replaces one of the files at once, as a tool that rotates certificates does.
func put(t *testing.T, to, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

// later makes the next use of the keeper look at the files.
func later(k *Keeper) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = k.looked.Add(-lookEvery)
}

// TestReload: new connections use the changed files, half a change is not used and is
// a problem, and what was open stays.
func TestReload(t *testing.T) {
	t.Parallel()
	files, next := issue(t, "first"), issue(t, "second")
	old := opened(t, Files{Cert: files.Cert, Key: files.Key, CA: files.CA}).Client() // of the first authority
	k := opened(t, files)
	server := k.Server()
	if err := shake(t, server, old); err != nil {
		t.Fatal(err)
	}
	open, done := session(t, server, old)
	defer done()

	put(t, files.Cert, next.Cert) // which is the CA too; the key is not there yet
	later(k)
	if err := shake(t, server, old); err != nil {
		t.Errorf("with half a pair: %v, want the former pair in use", err)
	}
	if p := k.Problem(); !strings.Contains(p, "the changed files are not in use") || !strings.Contains(p, "does not match") {
		t.Errorf("problem %q", p)
	}
	put(t, files.Key, next.Key)
	later(k)
	if err := shake(t, server, old); err == nil {
		t.Error("a client of the former authority is admitted")
	}
	if err := shake(t, server, k.Client()); err != nil {
		t.Errorf("with the new pair on both ends: %v", err)
	}
	if p := k.Problem(); p != "" {
		t.Errorf("problem %q after the change", p)
	}
	certs := k.Certificates()
	if len(certs) != 2 || certs[0].Subject.CommonName != "second" || certs[0].CA || !certs[1].CA || certs[1].File != files.CA {
		t.Errorf("certificates %v", certs)
	}
	if err := open(); err != nil {
		t.Errorf("a connection of before the change: %v", err)
	}
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	later(k)
	if err := shake(t, server, k.Client()); err != nil {
		t.Errorf("without a file: %v, want the former ones in use", err)
	}
	if p := k.Problem(); !strings.Contains(p, files.Key) {
		t.Errorf("problem %q, want %s", p, files.Key)
	}
}

// TestLooks: the files are looked at once a second at most, and read when they have
// changed alone.
func TestLooks(t *testing.T) {
	t.Parallel()
	files, next := issue(t, "first"), issue(t, "second")
	k := opened(t, files)
	put(t, files.Cert, next.Cert)
	put(t, files.Key, next.Key)
	k.mu.Lock()
	k.looked = time.Now().Add(time.Hour) // a look is not due
	k.mu.Unlock()
	if got := k.Certificates()[0].Subject.CommonName; got != "first" {
		t.Errorf("%s is in use before the next look", got)
	}
	k.mu.Lock()
	k.looked = time.Time{}
	k.mu.Unlock()
	if got := k.Certificates()[0].Subject.CommonName; got != "second" {
		t.Errorf("%s is in use after the look", got)
	}
	before := k.now
	later(k)
	if k.current() != before {
		t.Error("files that did not change were read again")
	}
}

// TestTrustReload: a client of etcd shows its new certificate at the next handshake.
func TestTrustReload(t *testing.T) {
	t.Parallel()
	files, next := issue(t, "first"), issue(t, "second")
	k := opened(t, files)
	client := k.Trust()
	shown := func() string {
		c, err := client.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Errorf("shows %s", got)
	}
	put(t, files.Cert, next.Cert)
	put(t, files.Key, next.Key)
	later(k)
	if got := shown(); got != "second" {
		t.Errorf("shows %s after the change", got)
	}
}

// session opens a connection, and returns how to send over it.
func session(t *testing.T, server, client *tls.Config) (send func() error, done func()) {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := lis.Accept()
		if err == nil {
			err = conn.(*tls.Conn).HandshakeContext(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := <-accepted
	return func() error {
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			_, err := other.Read(make([]byte, 1))
			return err
		}, func() {
			conn.Close()
			other.Close()
			lis.Close()
		}
}
