package integration

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"onlink/integration/conf"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/identity"
)

// TestRemoteAPI calls a node's agent from another machine with the certificates of an
// operator, a viewer and a node: each does what its role may, the rest is denied with
// the role that it needs, and audited. Only an operator's certificate, or the agent that
// has the registry, releases another node's blocks. With --nodes all nodes are shown,
// and the dead one is named. Changed files are used without a
// restart, and the end of a certificate is a problem and a metric.
func TestRemoteAPI(t *testing.T) {
	ctx, l := labtest.Build(t, labtest.InRack("remote"))
	registry, worker, dead := l.Reflectors()[0], l.Node("r1n1"), l.Node("r1n2")
	ca := labtest.NewAuthority(t)
	files := map[*lab.Node]conf.TLS{}
	for _, n := range l.Nodes() {
		files[n] = ca.Issue(t, identity.Node, n.Name, n.Addr)
		n.Edit = func(c *conf.Config) {
			c.API.Admin.TCP, c.API.Admin.TLS = netip.AddrPortFrom(n.Addr, 9180).String(), files[n]
			c.IPAM.Registry.TLS, c.IPAM.Registry.Insecure = files[n], false
		}
	}
	labtest.StartAll(ctx, t, l)
	operator, viewer := ca.Issue(t, identity.Operator, "alice"), ca.Issue(t, identity.Viewer, "bob")

	want := func(as conf.TLS, at *lab.Node, code int, word string, args ...string) {
		t.Helper()
		out, err := ctlFrom(ctx, registry, as, at, args...)
		if err != nil || out.Code != code || !strings.Contains(out.Stdout+out.Stderr, word) {
			t.Errorf("%v: code %d, %v; want %d and %q:\n%s%s", args, out.Code, err, code, word, out.Stdout, out.Stderr)
		}
	}
	want(viewer, worker, 0, worker.Name, "status")
	want(viewer, worker, 1, "it needs the role operator", "drain", "--wait", "0s")
	want(files[dead], worker, 1, "onlink://node/"+dead.Name, "status")
	want(operator, worker, 0, "drained", "drain", "--wait", "0s")
	want(operator, worker, 0, "serving", "undrain")
	want(viewer, worker, 0, "Admin.Drain", "ipam", "audit")
	labtest.WantCtl(ctx, t, worker, 0, "onlink://viewer/bob", "ipam", "audit")

	block := labtest.BlockOf(ctx, t, dead)
	must(t, dead.Kill())
	for _, n := range []*lab.Node{registry, worker} {
		want(viewer, worker, 1, "\n"+n.Name+" ", "status", "--nodes", "all")
	}
	want(viewer, registry, 1, dead.Name+": no answer: no process listens on "+dead.Addr.String(), "peers", "--nodes", "all")
	want(files[dead], worker, 1, "it needs the role viewer or operator", "routes", "--nodes", "all")
	want(operator, worker, 1, "it needs the role operator", "ipam", "release-node", dead.Name) // its agent calls the registry as a node
	labtest.WantCtl(ctx, t, registry, 0, "Registry.ForceRelease", "ipam", "audit")
	want(operator, registry, 1, "--force takes them", "ipam", "release-node", dead.Name)
	want(operator, registry, 0, block.String(), "ipam", "release-node", dead.Name, "--force")

	renewed := ca.IssueFor(t, time.Now().Add(-100*24*time.Hour), time.Now().Add(20*24*time.Hour), identity.Node, worker.Name, worker.Addr)
	for from, to := range map[string]string{renewed.Cert: files[worker].Cert, renewed.Key: files[worker].Key} {
		must(t, os.Rename(from, to))
	}
	must(t, lab.Eventually(ctx, labtest.Patience, "the end of the new certificate is a problem", func() error {
		return labtest.Problem(ctx, worker, "api.admin.tls: the certificate CN="+worker.Name+" in "+files[worker].Cert+" expires in 19 days")
	}))
	text, err := labtest.Metrics(ctx, worker)
	if series := `onlink_tls_certificate_expiry_timestamp_seconds{kind="certificate",section="api.admin.tls",subject="CN=` + worker.Name + `"} `; err != nil || !strings.Contains(text, series) {
		t.Errorf("metrics lack %s: %v", series, err)
	}
	want(viewer, worker, 0, "expires in 19 days", "status")
	must(t, lab.Eventually(ctx, labtest.Patience, "sessions and registry are untouched", func() error {
		st, err := worker.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range st.GetProblems() {
			if strings.Contains(p, "registry:") {
				return errors.New(p)
			}
		}
		return nil
	}))
}

// ctlFrom runs onlinkctl on a node against the agent of another one, with a
// certificate.
func ctlFrom(ctx context.Context, from *lab.Node, as conf.TLS, at *lab.Node, args ...string) (lab.Output, error) {
	return from.Exec(ctx, lab.Command{Program: "onlinkctl", Args: args, Env: remoteEnv(as, at)})
}

// remoteEnv is the environment in which onlinkctl calls the agent of a node with a
// certificate.
func remoteEnv(as conf.TLS, at *lab.Node) []string {
	return []string{
		"ONLINK_SERVER=" + netip.AddrPortFrom(at.Addr, 9180).String(), "ONLINK_TLS_CA=" + as.CA, "ONLINK_TLS_CERT=" + as.Cert, "ONLINK_TLS_KEY=" + as.Key,
	}
}
