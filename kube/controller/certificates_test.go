package controller

import (
	"net/netip"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"onlink/internal/pki"
	"onlink/kube/certificate"
)

// TestSharedAddress: a node whose Node has another's address gets no certificate for it:
// it writes that Node itself.
func TestSharedAddress(t *testing.T) {
	t.Parallel()
	own := machineNode("n1", "192.0.2.11", "192.0.2.12")
	i := &issuer{c: knowing(t, own, machineNode("n2", "192.0.2.12"))}
	for address, want := range map[string]string{"192.0.2.11": "", "192.0.2.12": "192.0.2.12 is that of Node n2 too", "192.0.2.13": "no InternalIP"} {
		key, err := pki.NewKey(pki.P256)
		if err != nil {
			t.Fatal(err)
		}
		r, err := certificate.NewRequest(key, "n1", []netip.Addr{netip.MustParseAddr(address)})
		if err != nil {
			t.Fatal(err)
		}
		g, why := i.owners(true).judge(r, own)
		if want == "" && (why != nil || g.node != "n1") || want != "" && (why == nil || !strings.Contains(why.Error(), want)) {
			t.Errorf("%s: %v, %v; want %q", address, g, why, want)
		}
	}
}

// TestAnswered: a request is open until it has a certificate or a refusal; an approval of
// a person alone is no answer.
func TestAnswered(t *testing.T) {
	t.Parallel()
	for kind, want := range map[certificatesv1.RequestConditionType]bool{
		"": false, certificatesv1.CertificateApproved: false, certificatesv1.CertificateDenied: true, certificatesv1.CertificateFailed: true,
	} {
		r := &certificatesv1.CertificateSigningRequest{Status: certificatesv1.CertificateSigningRequestStatus{
			Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: kind, Status: corev1.ConditionTrue}},
		}}
		if answered(r) != want {
			t.Errorf("%q is an answer: %v", kind, !want)
		}
	}
	if !answered(&certificatesv1.CertificateSigningRequest{Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte("x")}}) {
		t.Error("a certificate is no answer")
	}
}
