package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/internal/pki"
)

const account = "system:serviceaccount:onlink:onlink-node"

var (
	v4 = netip.MustParseAddr("192.0.2.11")
	v6 = netip.MustParseAddr("2001:db8::11")
	n1 = &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "n1"},
			{Type: corev1.NodeInternalIP, Address: v4.String()},
			{Type: corev1.NodeInternalIP, Address: v6.String()},
			{Type: corev1.NodeExternalIP, Address: "198.51.100.1"},
		}},
	}
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRequest: what a node asks for is granted, with its addresses and its key, and a key
// has one request.
func TestRequest(t *testing.T) {
	key := newKey(t)
	r, err := NewRequest(key, "n1", Addresses(n1))
	if err != nil {
		t.Fatal(err)
	}
	r.Spec.Username, r.Spec.Extra = account, map[string]certificatesv1.ExtraValue{nodeExtra: {"n1"}}
	if name, err := Requester(r, account); err != nil || name != "n1" {
		t.Errorf("from %q, %v", name, err)
	}
	g, err := Judge(r, n1)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Addresses) != 2 || g.Addresses[0] != v4 || g.Addresses[1] != v6 || !key.Public().(*ecdsa.PublicKey).Equal(g.Public) {
		t.Errorf("granted %v", g)
	}
	again, err := NewRequest(key, "n1", Addresses(n1))
	if err != nil || again.Name != r.Name {
		t.Errorf("the key asks as %s, then as %s: %v", r.Name, again.Name, err)
	}
	other, err := NewRequest(newKey(t), "n1", Addresses(n1))
	if err != nil || other.Name == r.Name {
		t.Errorf("another key asks as %s too: %v", other.Name, err)
	}
	long := strings.Repeat("n", 199) + "." + strings.Repeat("m", 53)
	if r, err := NewRequest(key, long, nil); err != nil || len(r.Name) > 253 || strings.Contains(r.Name, ".-") {
		t.Errorf("a long name asks as %s, %v", r.Name, err)
	}
}

// TestStranger: who is not a pod of the DaemonSet on a node gets nothing.
func TestStranger(t *testing.T) {
	for _, c := range []struct {
		name, user string
		extra      map[string]certificatesv1.ExtraValue
		want       string
	}{
		{"another service account", "system:serviceaccount:onlink:onlink-controller", map[string]certificatesv1.ExtraValue{nodeExtra: {"n1"}}, "onlink-controller asks"},
		{"one of another namespace", "system:serviceaccount:default:onlink-node", map[string]certificatesv1.ExtraValue{nodeExtra: {"n1"}}, "default:onlink-node asks"},
		{"a token of no node", account, nil, "names no node"},
		{"an empty name", account, map[string]certificatesv1.ExtraValue{nodeExtra: {""}}, "names no node"},
		{"two nodes", account, map[string]certificatesv1.ExtraValue{nodeExtra: {"n1", "n2"}}, "names no node"},
	} {
		r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{Username: c.user, Extra: c.extra}}
		if name, err := Requester(r, account); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, name, err, c.want)
		}
	}
}

// TestForged: a node gets its own name and addresses, the role node, and no more; the
// error is the reason that the request shows.
func TestForged(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		name   string
		key    crypto.Signer
		change func(*x509.CertificateRequest, *certificatesv1.CertificateSigningRequest)
		want   string
	}{
		{"another node", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.URIs = []*url.URL{uri("onlink://node/n2")}
		}, "node n1 gets onlink://node/n1 alone"},
		{"an operator", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.URIs = []*url.URL{uri("onlink://operator/n1")}
		}, "gets onlink://node/n1 alone"},
		{"an operator too", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.URIs = append(q.URIs, uri("onlink://operator/n1"))
		}, "gets onlink://node/n1 alone"},
		{"no role", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) { q.URIs = nil }, "gets onlink://node/n1 alone"},
		{"another's DNS name", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.DNSNames = append(q.DNSNames, "kubernetes.default")
		}, "its own name alone"},
		{"a mail address", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.EmailAddresses = []string{"a@example.com"}
		}, "its own name alone"},
		{"another's address", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.IPAddresses = []net.IP{net.IP(netip.MustParseAddr("192.0.2.12").AsSlice())}
		}, "192.0.2.12 is no InternalIP of node n1"},
		{"no address", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) { q.IPAddresses = nil }, "has no address"},
		{"an authority", nil, func(q *x509.CertificateRequest, _ *certificatesv1.CertificateSigningRequest) {
			q.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}
		}, "the extension 2.5.29.19"},
		{"an RSA key", rsaKey, nil, "not of the curve P-256"},
		{"another curve", large, nil, "not of the curve P-256"},
		{"other usages", nil, func(_ *x509.CertificateRequest, r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageCertSign)
		}, "the usages are"},
		{"two requests", nil, func(_ *x509.CertificateRequest, r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Request = []byte("twice")
		}, "not one PEM block"},
		{"a signature of another", nil, func(_ *x509.CertificateRequest, r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Request = []byte("spoil")
		}, "not signed with its key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := c.key
			if key == nil {
				key = newKey(t)
			}
			template := &x509.CertificateRequest{DNSNames: []string{"n1"}, URIs: []*url.URL{uri("onlink://node/n1")}, IPAddresses: []net.IP{net.IP(v4.AsSlice())}}
			r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{Usages: slices.Clip(usages)}}
			if c.change != nil {
				c.change(template, r)
			}
			der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Spec.Request) == "spoil" {
				der[len(der)-1] ^= 1
			}
			text := pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der})
			if string(r.Spec.Request) == "twice" {
				text = append(text, text...)
			}
			r.Spec.Request = text
			if g, err := Judge(r, n1); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("granted %v, %v; want %q", g, err, c.want)
			}
		})
	}
}
