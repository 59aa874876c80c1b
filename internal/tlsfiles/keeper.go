package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// lookEvery is the least time between two looks at the files.
const lookEvery = time.Second

// Keeper holds what the files of an endpoint have. It looks at them when one of its
// methods, or a handshake, needs them, and reads them again when they have changed:
// new connections use the new files, and those that are open stay. Files that cannot
// be read, such as a certificate whose key is not written yet, change nothing. It is
// safe for concurrent use, and has no goroutine.
type Keeper struct {
	files Files

	mu     sync.Mutex
	looked time.Time // guarded by mu
	stamps []stamp   // guarded by mu; of the files as they were read
	now    *material // guarded by mu
	failed error     // guarded by mu; why the changed files are not in use
}

// stamp tells a file from what was there before.
type stamp struct {
	inode uint64
	size  int64
	mtime time.Time
}

// Open reads the files.
func (f Files) Open() (*Keeper, error) {
	k := &Keeper{files: f, looked: time.Now()}
	k.stamps = k.look() // before they are read: a change meanwhile is found at the next look
	var err error
	k.now, err = f.read()
	if err != nil {
		return nil, err
	}
	return k, nil
}

// look returns the stamps of the files; a file that is not there has none.
func (k *Keeper) look() []stamp {
	var out []stamp
	for _, path := range []string{k.files.Cert, k.files.Key, k.files.CA} {
		var s stamp
		if info, err := os.Stat(path); err == nil {
			s = stamp{size: info.Size(), mtime: info.ModTime()}
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				s.inode = sys.Ino
			}
		}
		out = append(out, s)
	}
	return out
}

// current returns what the files have now, or had when they could last be read.
func (k *Keeper) current() *material {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < lookEvery {
		return k.now
	}
	k.looked = time.Now()
	stamps := k.look()
	if k.same(stamps) && k.failed == nil {
		return k.now
	}
	next, err := k.files.read()
	if err != nil {
		k.failed = err // read again at the next look
		return k.now
	}
	k.now, k.stamps, k.failed = next, stamps, nil
	return k.now
}

func (k *Keeper) same(stamps []stamp) bool {
	for i, s := range stamps {
		if s.inode != k.stamps[i].inode || s.size != k.stamps[i].size || !s.mtime.Equal(k.stamps[i].mtime) {
			return false
		}
	}
	return true
}

// Server returns mutual TLS for a server, which uses the files as they are at each
// handshake: clients must have a certificate of the same CA.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current().server(), nil },
	}
}

// Client returns mutual TLS for a client, with the files as they are now: use it for
// one connection.
func (k *Keeper) Client() *tls.Config { return k.current().client() }

// Trust returns TLS for a client with or without a certificate of its own: etcd may
// authenticate its clients by password. A changed certificate is used at the next
// handshake, a changed CA is not.
func (k *Keeper) Trust() *tls.Config {
	m := k.current()
	out := &tls.Config{RootCAs: m.pool, MinVersion: tls.VersionTLS12} // etcd 3.4 of Debian has 1.2
	if len(m.certs) > 0 {
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &k.current().certs[0], nil }
	}
	return out
}

// Certificate is one of the files' certificates.
type Certificate struct {
	File string
	CA   bool // it is of the file CA
	*x509.Certificate
}

// Certificates returns the endpoint's own certificate, and those of the CA.
func (k *Keeper) Certificates() []Certificate {
	m := k.current()
	var out []Certificate
	for _, c := range m.certs {
		out = append(out, Certificate{File: k.files.Cert, Certificate: c.Leaf})
	}
	for _, c := range m.ca {
		out = append(out, Certificate{File: k.files.CA, CA: true, Certificate: c})
	}
	return out
}

// Problem returns why changed files are not in use; "" when they are.
func (k *Keeper) Problem() string {
	k.current()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed == nil {
		return ""
	}
	return fmt.Sprintf("the changed files are not in use: %v; the former ones are", k.failed)
}
