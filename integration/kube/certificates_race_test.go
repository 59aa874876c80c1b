package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"onlink/integration/kube/api"
	"onlink/integration/lab"
	"onlink/internal/pki"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
	"onlink/kube/controller"
)

// TestTwoIssuers: two controllers that both work, such as one that has lost its lead and
// does not know it yet, make one authority, and replace it by one: each writes over nothing
// that the other wrote.
func TestTwoIssuers(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), api.Start(t)
	applyManifest(ctx, t, s)
	node := netip.MustParseAddr("192.0.2.2")
	makeNode(ctx, t, s.Client, "n1", node.String())
	asked := asNode(t, s, "n1")
	_, err := s.Client.Configs.Create(ctx, &v1alpha1.OnlinkConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName}}, metav1.CreateOptions{}) // that of alarms
	must(t, err)
	r := newRace()
	for _, second := range []bool{false, true} {
		cfg := rest.CopyConfig(s.Config)
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &racer{race: r, next: next, second: second} })
		c, err := client.New(cfg)
		must(t, err)
		runIssuer(t, c, 0)
	}
	secrets, configMaps := s.Client.CoreV1().Secrets(certificate.Namespace(namespace)), s.Client.CoreV1().ConfigMaps(namespace)
	// ring returns the authority, once what the nodes trust is that.
	ring := func(what string, done func(*corev1.Secret, *certificate.Ring) error) (found *certificate.Ring) {
		t.Helper()
		request(ctx, t, asked, "n1", node) // begins a turn of both
		must(t, lab.Eventually(ctx, patience, what, func() error {
			secret, err := secrets.Get(ctx, certificate.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			trust, err := configMaps.Get(ctx, certificate.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if found, err = certificate.ParseRing(secret.Data); err != nil {
				return err
			}
			if trust.Data["ca.crt"] != string(found.Trust()) {
				return errors.New("the ConfigMap has other certificates")
			}
			return errors.Join(done(secret, found), r.refused(http.StatusConflict))
		}))
		return found
	}

	first := ring("one authority of two", func(*corev1.Secret, *certificate.Ring) error { return nil })
	r.again()
	_, err = secrets.Patch(ctx, certificate.Name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, certificate.RotateAnnotation), metav1.PatchOptions{})
	must(t, err)
	second := ring("one successor of two", func(have *corev1.Secret, found *certificate.Ring) error {
		if _, wished := have.Annotations[certificate.RotateAnnotation]; wished || found.Next == nil {
			return fmt.Errorf("no successor; annotations %v", have.Annotations)
		}
		return nil
	})
	if !second.Current.Cert.Equal(first.Current.Cert) {
		t.Error("the authority was replaced by another")
	}
	eventually(t, "every request is answered by the one authority", func() error {
		list, err := s.Client.CertificatesV1().Requests().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, one := range list.Items {
			certs, err := pki.ParseCertificates(one.Status.Certificate)
			if err != nil {
				return fmt.Errorf("%s: %w", one.Name, err)
			}
			if err := certs[0].CheckSignatureFrom(first.Current.Cert); err != nil {
				t.Fatalf("%s: %v", one.Name, err)
			}
		}
		return nil
	})
	if err := alarmed(ctx, s.Client, "AuthorityAbsent"); err == nil {
		t.Error("an authority that the other one made was taken for one that is gone")
	}
}

// race has two controllers decide at once what the first one then writes: it waits until
// the second one has read what it decides on, and that waits until the first one is done.
type race struct {
	mu   sync.Mutex
	read chan struct{} // the second one has read; guarded by mu
	done chan struct{} // the first one has written; guarded by mu
	late []int         // answers to what the second one wrote behind it; guarded by mu
}

func newRace() *race {
	r := &race{}
	r.again()
	return r
}

// again begins a race.
func (r *race) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.done, r.late = make(chan struct{}), make(chan struct{}), nil
}

// refused returns an error unless the API server answered so to a late write.
func (r *race) refused(code int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.late) == 0 || r.late[0] != code {
		return fmt.Errorf("the late writes were answered with %v, want %d", r.late, code)
	}
	return nil
}

// pass closes a channel once.
func (r *race) pass(c chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !closed(c) {
		close(c)
	}
}

// racer carries the calls of one of the two controllers.
type racer struct {
	*race

	next   http.RoundTripper
	second bool
}

// RoundTrip implements http.RoundTripper.
func (r *racer) RoundTrip(q *http.Request) (*http.Response, error) {
	secret, trust := strings.Contains(q.URL.Path, "/secrets"), strings.Contains(q.URL.Path, "/configmaps")
	writes := q.Method != http.MethodGet
	r.mu.Lock()
	read, done := r.read, r.done
	r.mu.Unlock()
	var err error
	switch {
	case r.second && (secret || trust) && closed(read):
		err = await(q.Context(), done)
	case r.second && strings.Contains(q.URL.Path, "/leases"):
		q, err = otherLease(q)
	case !r.second && secret && writes:
		err = await(q.Context(), read)
	}
	if err != nil {
		return nil, err
	}
	a, err := r.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	switch {
	case r.second && secret && writes:
		r.mu.Lock()
		r.late = append(r.late, a.StatusCode)
		r.mu.Unlock()
	case r.second && secret:
		if wished, err := shows(a); err != nil {
			return nil, err
		} else if wished {
			r.pass(read)
		}
	case !r.second && trust && writes:
		r.pass(done)
	}
	return a, nil
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// await waits for the other controller.
func await(ctx context.Context, c chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shows reports whether an answer shows that an authority is to be made.
func shows(a *http.Response) (bool, error) {
	body, err := io.ReadAll(a.Body)
	if err := errors.Join(err, a.Body.Close()); err != nil {
		return false, err
	}
	a.Body = io.NopCloser(bytes.NewReader(body))
	return a.StatusCode == http.StatusNotFound || bytes.Contains(body, []byte(certificate.RotateAnnotation)), nil
}

// otherLease has a call concern another Lease, whose name is as long: it is in the
// body, too, which is protobuf.
func otherLease(q *http.Request) (*http.Request, error) {
	other := strings.Replace(controller.LeaseName, ".", "-", 1)
	q = q.Clone(q.Context())
	q.URL.Path = strings.Replace(q.URL.Path, controller.LeaseName, other, 1)
	if q.Body == nil {
		return q, nil
	}
	body, err := io.ReadAll(q.Body)
	if err := errors.Join(err, q.Body.Close()); err != nil {
		return nil, err
	}
	q.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte(controller.LeaseName), []byte(other))))
	return q, nil
}
