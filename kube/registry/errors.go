package registry

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errBusy is returned when other nodes were faster again and again.
var errBusy = errors.New("too many nodes change the same blocks at once")

// absent reports that the API server has no such object. The answer of a server
// that does not serve the resource is 404 as well: a release must not take it for
// a success, nor an assert for a lost block.
func absent(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// unserved reports that the API server does not serve the resource: its CRD is gone,
// and with it the objects.
func unserved(err error) bool { return apierrors.IsNotFound(err) && !absent(err) }

// denied reports that the API server, or admission, rejects a write.
func denied(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) }

// explain returns the error of a call to the API server with what to do about it.
// It is none of the errors of [ipam.Registry]: those are answers of a registry, and
// an API server that fails gave none.
func explain(deed string, err error) error {
	switch {
	case err == nil:
		return nil
	case unserved(err):
		return fmt.Errorf("%s: the API server does not serve the objects of onlink.io: apply the CRDs again: %w", deed, err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: the API server forbids it: apply the ClusterRole of onlink-node again: %w", deed, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server rejects the token of the ServiceAccount: %w", deed, err)
	}
	return fmt.Errorf("%s: %w", deed, err)
}
