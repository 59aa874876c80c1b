package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/internal/identity"
)

// nodeExtra is what the API server notes of a pod's token: the node that it runs on.
const nodeExtra = "authentication.kubernetes.io/node-name"

// requestBlock is the kind of a request's PEM block.
const requestBlock = "CERTIFICATE REQUEST"

// usages are those of every request: an agent answers others and asks them.
var usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}

// longestName bounds a node's name in that of its request: an object's name has at most
// 253 characters.
const longestName = 200

// NewRequest returns the object by which a node asks for a certificate for its key. Its
// name is that of the key: a process that begins anew asks no second time.
func NewRequest(key crypto.Signer, node string, addresses []netip.Addr) (*certificatesv1.CertificateSigningRequest, error) {
	id, err := identity.New(identity.Node, node)
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{DNSNames: []string{node}, URIs: []*url.URL{id.URI()}}
	for _, a := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make request of a certificate: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make request of a certificate: %w", err)
	}
	sum := sha256.Sum256(public)
	short := strings.TrimRight(node[:min(len(node), longestName)], "-.")
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("onlink-%s-%s", short, hex.EncodeToString(sum[:8]))},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: Signer, Usages: usages,
			Request: pem.EncodeToMemory(&pem.Block{Type: requestBlock, Bytes: der}),
		},
	}, nil
}

// Addresses returns the addresses that others reach a Node by.
func Addresses(n *corev1.Node) (out []netip.Addr) {
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && addr.Zone() == "" {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// Granted is what a certificate is made of. Nothing else of a request is used.
type Granted struct {
	Public    crypto.PublicKey
	Addresses []netip.Addr
}

// Requester returns the node that a request is from. The API server wrote who made it,
// and nobody can change that: account is the user of the nodes' pods, whose tokens name
// the node they run on.
func Requester(r *certificatesv1.CertificateSigningRequest, account string) (string, error) {
	if r.Spec.Username != account {
		return "", fmt.Errorf("%s asks, and only %s gets such certificates", r.Spec.Username, account)
	}
	if names := r.Spec.Extra[nodeExtra]; len(names) == 1 && names[0] != "" {
		return names[0], nil
	}
	return "", errors.New("the token of the request names no node: it is not one of a pod, or the API server is older than 1.32")
}

// Judge returns what a request of a node gets; an error is why it gets nothing. A node
// gets its own name and addresses, the role node, and no more.
func Judge(r *certificatesv1.CertificateSigningRequest, n *corev1.Node) (*Granted, error) {
	if have := slices.Sorted(slices.Values(r.Spec.Usages)); !slices.Equal(have, usages) {
		return nil, fmt.Errorf("the usages are %v: ask for %v", have, usages)
	}
	block, rest := pem.Decode(r.Spec.Request)
	if block == nil || block.Type != requestBlock || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("the request is not one PEM block " + requestBlock)
	}
	q, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	if err := q.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed with its key: %w", err)
	}
	if key, ok := q.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key is not of the curve P-256")
	}
	for _, e := range q.Extensions {
		if !e.Id.Equal(alternativeNames) { // such as CA: true
			return nil, fmt.Errorf("the request has the extension %v: only subjectAltName may be in it", e.Id)
		}
	}
	return names(q, n)
}

// alternativeNames is the extension subjectAltName (RFC 5280 section 4.2.1.6).
var alternativeNames = []int{2, 5, 29, 17}

// names judges the names of a request.
func names(q *x509.CertificateRequest, n *corev1.Node) (*Granted, error) {
	id := identity.Identity{Role: identity.Node, Name: n.Name}
	if len(q.URIs) != 1 || q.URIs[0].String() != id.String() {
		return nil, fmt.Errorf("the SAN URIs are %v: node %s gets %s alone", q.URIs, n.Name, id)
	}
	if len(q.EmailAddresses) > 0 || !slices.Equal(q.DNSNames, []string{n.Name}) {
		return nil, fmt.Errorf("the SAN names are %v: node %s gets its own name alone", slices.Concat(q.DNSNames, q.EmailAddresses), n.Name)
	}
	g := &Granted{Public: q.PublicKey}
	own := Addresses(n)
	for _, ip := range q.IPAddresses {
		a, ok := netip.AddrFromSlice(ip)
		if a = a.Unmap(); !ok || !slices.Contains(own, a) {
			return nil, fmt.Errorf("the address %s is no InternalIP of node %s, which has %v", ip, n.Name, own)
		}
		g.Addresses = append(g.Addresses, a)
	}
	if len(g.Addresses) == 0 {
		return nil, fmt.Errorf("the request has no address: others reach node %s by none", n.Name)
	}
	return g, nil
}
