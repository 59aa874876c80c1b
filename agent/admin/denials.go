package admin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"onlink/ipam"
)

// Bounds of the denials in the audit. Their number there is bounded by the database
// too ([ipam.AuditDenied]): no caller can push the forced actions out of it, nor make
// the agent write all the time.
const (
	denialAgain = time.Hour   // the same caller and method are noted again
	denialBurst = 20          // noted at once after a quiet time
	denialEvery = time.Minute // one more
	maxDenials  = 512         // pairs of caller and method that are remembered
)

// denials decides which denials are noted.
type denials struct {
	mu     sync.Mutex
	noted  map[[2]string]time.Time // guarded by mu; by caller and method
	left   float64                 // guarded by mu; may be noted now
	at     time.Time               // guarded by mu; of left
	missed int                     // guarded by mu; since the last that was noted
}

// admit reports whether to note a denial, and how many were not noted before it.
func (d *denials) admit(key, method string, now time.Time) (missed int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.noted == nil {
		d.noted, d.left = map[[2]string]time.Time{}, denialBurst
	} else {
		d.left = min(d.left+now.Sub(d.at).Minutes()*float64(time.Minute/denialEvery), denialBurst)
	}
	d.at = now
	pair := [2]string{key, method}
	if last, known := d.noted[pair]; known && now.Sub(last) < denialAgain {
		d.missed++
		return 0, false
	}
	if len(d.noted) >= maxDenials {
		for k, last := range d.noted {
			if now.Sub(last) >= denialAgain {
				delete(d.noted, k)
			}
		}
	}
	if d.left < 1 || len(d.noted) >= maxDenials {
		d.missed++
		return 0, false
	}
	d.left--
	d.noted[pair] = now
	missed, d.missed = d.missed, 0
	return missed, true
}

// Denied records a denied call in the log and the database: the first of a caller
// and method in an hour, and of many callers a bounded number.
func (a Auditor) Denied(ctx context.Context, method, why string) {
	now, by := time.Now(), visitorOf(ctx)
	missed, ok := a.denials.admit(by.key, method, now)
	if !ok {
		return
	}
	a.Log.Warn("denied a call", "by", by.name, "method", method, "reason", why, "more_not_recorded", missed)
	if missed > 0 {
		why += fmt.Sprintf(" (and %d denied calls before that are not recorded)", missed)
	}
	n, err := a.Store.BeginAudit(ipam.AuditEntry{Began: now, Action: ipam.AuditDenied, Target: method, By: by.name})
	if err == nil {
		err = a.Store.EndAudit(n, nil, deniedError(why))
	}
	if err != nil {
		a.Log.Error("failed to record a denied call", "err", err)
	}
}

// deniedError is why a call was denied.
type deniedError string

func (e deniedError) Error() string { return string(e) }
