package preflight

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"onlink/agent/endpoint"
	"onlink/agent/install"
	"onlink/agent/rooms"
	"onlink/internal/tlsfiles"
	"onlink/ipam"
)

// paths checks the folders, and that the database opens.
func (m *machine) paths() {
	judged := map[string]bool{} // sockets are in paths.run by default
	for _, f := range []struct{ field, path string }{
		{"paths.state", m.Paths.State},
		{"paths.run", m.Paths.Run},
		{"api.admin.socket", filepath.Dir(m.API.Admin.Socket)},
		{"cni.socket", filepath.Dir(m.CNI.Socket)},
	} {
		if judged[f.path] {
			continue
		}
		judged[f.path] = true
		if err := folder(f.path); err != nil && !unseen(err) {
			m.fail(f.field, "the folder %s cannot be made or written: %v; name another, or correct what is there", f.path, err)
		}
	}
	s, err := ipam.OpenStore(m.Database, ipam.StoreOptions{ReadOnly: true, LockWait: time.Millisecond})
	if err == nil {
		err = s.Close()
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ipam.ErrLocked) || unseen(err) {
		return
	}
	m.fail("paths.state", "%v; or name another folder", err)
}

// groups checks that the groups of the socket exist.
func (m *machine) groups() {
	admin := m.API.Admin
	ids := map[uint32]bool{}
	for _, g := range []struct{ field, name string }{{"api.admin.group", admin.Group}, {"api.admin.viewers", admin.Viewers}} {
		if g.name == "" {
			continue
		}
		id, err := endpoint.GroupID(g.name)
		switch {
		case err != nil:
			m.fail(g.field, "this machine has no group %q: %v; make it with groupadd, or write the name or number of one", g.name, err)
		case ids[id]:
			m.fail(g.field, "%s is the group of api.admin.group, which may change everything; use another group", g.name)
		}
		ids[id] = true
	}
}

// keys checks the files of passwords.
func (m *machine) keys() {
	key := func(field, path string) {
		if _, err := rooms.Password(path); err != nil && !unseen(err) {
			m.fail(field, "%v; write the key into the file's first line, or correct the path", err)
		}
	}
	for i, p := range m.BGP.Peers {
		key(m.Places.Peer(i)+".passwordFile", p.PasswordFile)
	}
	if mesh := m.BGP.Mesh; mesh != nil {
		key("bgp.mesh.passwordFile", mesh.Peer.PasswordFile)
	}
	if r := m.BGP.Reflector; r != nil {
		key("bgp.reflector.passwordFile", r.PasswordFile)
	}
	key("ipam.registry.passwordFile", m.IPAM.Registry.PasswordFile)
}

// certificates checks the files of both TLS endpoints.
func (m *machine) certificates() {
	reg := m.IPAM.Registry
	var uses []x509.ExtKeyUsage
	if reg.Served() {
		uses = append(uses, x509.ExtKeyUsageServerAuth)
	}
	if len(reg.Addresses) > 0 {
		uses = append(uses, x509.ExtKeyUsageClientAuth)
	}
	m.certificate("ipam.registry.tls", reg.TLS, uses...)
	m.certificate("api.admin.tls", m.API.Admin.TLS, x509.ExtKeyUsageServerAuth)
}

// certificate checks that the files of one endpoint can be read, belong together
// and are valid now, and that the other side accepts the certificate for its uses.
func (m *machine) certificate(at string, f tlsfiles.Files, uses ...x509.ExtKeyUsage) {
	if !f.Enabled() || !m.readable(at, f) {
		return
	}
	if f.Cert != "" {
		if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
			m.fail(at+".cert", "%s and %s are no certificate and its key: %v; name the two that were issued together", f.Cert, f.Key, err)
			return
		}
	}
	k, err := f.Open()
	if err != nil {
		m.fail(at+".ca", "%v; name a file with the authority's certificate (ca.crt of onlinkctl pki init)", err)
		return
	}
	now := time.Now()
	authority := false // one of the authorities is valid
	for _, c := range k.Certificates() {
		if c.CA {
			authority = authority || now.Before(c.NotAfter)
			continue
		}
		switch missing := lacks(c.Certificate, uses); {
		case now.After(c.NotAfter):
			m.fail(at+".cert", "%s expired at %s; issue a new one (onlinkctl pki issue)", c.File, c.NotAfter.Format(time.RFC3339))
		case now.Before(c.NotBefore):
			m.fail(at+".cert", "%s is valid from %s on; correct this machine's clock, or issue a new one", c.File, c.NotBefore.Format(time.RFC3339))
		case missing != "":
			m.fail(at+".cert", "%s may not be used for %s (extended key usage), so the other side rejects it; issue one with onlinkctl pki issue", c.File, missing)
		}
	}
	if !authority {
		m.fail(at+".ca", "the certificates in %s have expired, so every other side is rejected; name a file with a valid authority", f.CA)
	}
}

// readable checks that each file opens.
func (m *machine) readable(at string, f tlsfiles.Files) bool {
	ok := true
	for _, one := range []struct{ key, path string }{{"cert", f.Cert}, {"key", f.Key}, {"ca", f.CA}} {
		if one.path == "" {
			continue
		}
		_, err := os.ReadFile(one.path)
		if err != nil && !unseen(err) {
			m.fail(at+"."+one.key, "%v; correct the path, or put the file there (onlinkctl pki issue)", err)
		}
		ok = ok && err == nil
	}
	return ok
}

// lacks returns the first use that a certificate excludes, "" for none. One without
// the extension is for all uses (RFC 5280 section 4.2.1.12).
func lacks(c *x509.Certificate, uses []x509.ExtKeyUsage) string {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return ""
	}
	for _, use := range uses {
		if slices.Contains(c.ExtKeyUsage, use) {
			continue
		}
		if use == x509.ExtKeyUsageServerAuth {
			return "servers"
		}
		return "clients"
	}
	return ""
}

// plugin checks the files that cni.install copies, and their folders.
func (m *machine) plugin() {
	if !m.CNI.Install.Enabled() {
		return
	}
	plan, err := install.Plan(m.CNI)
	if err != nil {
		m.fail("cni.install.plugin", "%v; name the file", err)
		return
	}
	if info, err := os.Stat(plan.Plugin); err != nil || !info.Mode().IsRegular() {
		if err == nil {
			err = fmt.Errorf("%s is no file", plan.Plugin)
		}
		if !unseen(err) {
			m.fail("cni.install.plugin", "%v; name the program onlink-cni, which is built with onlinkd", err)
		}
	}
	for _, f := range []struct{ key, path string }{{"binDir", plan.BinDir}, {"confDir", plan.ConfDir}} {
		if err := folder(f.path); err != nil && !unseen(err) {
			m.fail("cni.install."+f.key, "the folder %s cannot be made or written: %v; name that of the container runtime", f.path, err)
		}
	}
}

// sockets checks that a socket takes no other file's place.
func (m *machine) sockets() {
	for _, s := range []struct{ field, path string }{{"api.admin.socket", m.API.Admin.Socket}, {"cni.socket", m.CNI.Socket}} {
		info, err := os.Lstat(s.path)
		if err == nil && info.Mode().Type() != fs.ModeSocket {
			m.fail(s.field, "%s is there already, and is no socket; name another path", s.path)
		}
	}
}
