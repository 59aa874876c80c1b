package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
)

const (
	// firstLook and lastLook bound the pause between two looks at a request.
	firstLook, lastLook = time.Second, 2 * time.Minute
	// askAgain is the pause after a request was denied.
	askAgain = 5 * time.Minute
	// unanswered is how long a node may be without a certificate until that is a problem:
	// a controller that is replaced answers within half a minute.
	unanswered = 2 * time.Minute
)

// certifier has the agent's certificate issued and renewed. Key and certificate are in
// the files that the agent reads; the key never leaves this machine.
type certifier struct {
	log     *slog.Logger
	client  *client.Client
	objects *objects
	node    string
	folder  certificate.Folder
	wake    bell // the Node or the OnlinkConfig changed
	show    bell // what problems returns changed

	// These are the loop's alone.
	names []netip.Addr      // of the certificate that is in order until due
	due   time.Time         // zero: none is in order
	have  *x509.Certificate // nil: others accept none
	since time.Time         // since when a certificate lacks; zero: none does
	after time.Time         // before this time nothing is asked: a request was denied
	pause time.Duration     // the last one between two looks

	mu      sync.Mutex // guards all below
	trouble string
}

// problems returns why this node has no certificate that others accept; none: it has, or
// needs none.
func (c *certifier) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == "" {
		return nil
	}
	return []string{c.trouble}
}

// run issues and renews until ctx ends. It returns nil then.
func (c *certifier) run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-c.wake:
		}
		if wait := c.turn(ctx, time.Now()); wait > 0 {
			again.Reset(wait)
		}
		select { // a Node whose status changes all the time asks no more often
		case <-ctx.Done():
			return nil
		case <-time.After(firstLook):
		}
	}
}

// turn is one look at the files and, where they are not what they should be, at the
// request. It returns when the next one is due; 0: when something changes.
func (c *certifier) turn(ctx context.Context, now time.Time) time.Duration {
	addresses := c.wanted()
	if now.Before(c.due) && slices.Equal(c.names, addresses) {
		return c.due.Sub(now) // the bell rings for every object
	}
	c.due = time.Time{}
	if len(addresses) == 0 {
		c.settled()
		return 0
	}
	var err error
	if c.have, err = c.folder.Current(c.node, now); err != nil {
		return c.failed(now, err)
	}
	if c.have != nil && certificate.Fits(c.have, c.node, addresses) {
		if due := certificate.Renewal(c.have); now.Before(due) {
			c.names, c.due = addresses, due
			c.settled()
			return due.Sub(now)
		}
	}
	if wait := c.after.Sub(now); wait > 0 {
		return wait
	}
	return c.ask(ctx, now, addresses)
}

// wanted returns the addresses of the certificate; none: the agent needs none, or the
// Node is not received yet.
func (c *certifier) wanted() []netip.Addr {
	config, ok := c.objects.configs.get(v1alpha1.ConfigName)
	if !ok || config.Spec.AdminPort == nil || *config.Spec.AdminPort == 0 {
		return nil
	}
	self, ok := c.objects.self.get(c.node)
	if !ok {
		return nil
	}
	return certificate.Addresses(self)
}

// ask makes the request, or looks at the one under way.
func (c *certifier) ask(ctx context.Context, now time.Time, addresses []netip.Addr) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	key, err := c.folder.RequestKey()
	if err != nil {
		return c.failed(now, err)
	}
	want, err := certificate.NewRequest(key, c.node, addresses)
	if err != nil {
		return c.failed(now, err)
	}
	requests := c.client.CertificatesV1().Requests()
	have, err := requests.Get(ctx, want.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		have, err = requests.Create(ctx, want, metav1.CreateOptions{})
	}
	if err != nil {
		return c.failed(now, err)
	}
	refused := slices.IndexFunc(have.Status.Conditions, func(o certificatesv1.CertificateSigningRequestCondition) bool {
		return o.Type == certificatesv1.CertificateDenied || o.Type == certificatesv1.CertificateFailed
	})
	switch {
	case refused >= 0:
		return c.refused(now, have, have.Status.Conditions[refused].Message)
	case len(have.Status.Certificate) == 0:
		return c.failed(now, fmt.Errorf("the controller has not answered the CertificateSigningRequest %s", have.Name))
	}
	if err := c.folder.Install(key, have.Status.Certificate, c.node, addresses, now); err != nil {
		return c.refused(now, have, "the certificate is of no use: "+err.Error())
	}
	c.log.Info("has a certificate of the cluster's authority", "request", have.Name)
	return firstLook
}

// refused gives up a request: the next one has another key and name.
func (c *certifier) refused(now time.Time, r *certificatesv1.CertificateSigningRequest, why string) time.Duration {
	c.since = now.Add(-unanswered) // it is a problem at once
	err := errors.Join(fmt.Errorf("CertificateSigningRequest %s: %s", r.Name, why), c.folder.Drop())
	c.after = now.Add(askAgain)
	return max(c.failed(now, err), askAgain)
}

// settled notes that nothing lacks.
func (c *certifier) settled() {
	c.since, c.pause = time.Time{}, 0
	c.tell("")
}

// failed notes what lacks, and returns the pause until the next look.
func (c *certifier) failed(now time.Time, err error) time.Duration {
	if c.since.IsZero() {
		c.since = now
	}
	if now.Sub(c.since) >= unanswered {
		what := "this node has no certificate for api.admin.tcp, so that explain asks no other agent"
		if c.have != nil {
			what = fmt.Sprintf("the certificate for api.admin.tcp, which ends on %s, is not renewed", c.have.NotAfter.UTC().Format(time.DateOnly))
		}
		c.tell(fmt.Sprintf("%s: %v", what, err))
	} else {
		c.log.Debug("waits for a certificate", "err", err)
	}
	c.pause = min(max(2*c.pause, firstLook), lastLook)
	return c.pause/2 + rand.N(c.pause) //nolint:gosec // it spreads load, and keeps no secret
}

// tell sets the problem, and wakes who shows it.
func (c *certifier) tell(problem string) {
	c.mu.Lock()
	news := c.trouble != problem
	c.trouble = problem
	c.mu.Unlock()
	if !news {
		return
	}
	if problem != "" {
		c.log.Warn("cannot get a certificate", "problem", problem)
	}
	c.show.ring()
}
