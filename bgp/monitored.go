package bgp

import (
	"net/netip"

	"onlink/bgp/bmp"
	"onlink/bgp/gobgp"
)

// Monitored is a speaker as monitoring stations read it: it implements [bmp.Source].
// Its methods return [ErrNotStarted] before [Speaker.Start], and with an unpatched
// engine an error that says so.
type Monitored struct{ s *Speaker }

// NewMonitored returns the sessions and tables of a speaker for stations.
func NewMonitored(s *Speaker) Monitored { return Monitored{s} }

func (m Monitored) source() (gobgp.Monitored, error) {
	engine, err := NewOperator(m.s).running()
	if err != nil {
		return gobgp.Monitored{}, err
	}
	return gobgp.NewMonitored(engine, func(peer netip.Addr) uint64 {
		r := m.s.ledger.get(m.s.watch.named(peer))
		return r.faults.Withdrawn
	}), nil
}

// Watch implements [bmp.Source].
func (m Monitored) Watch(w bmp.Watcher) (stop func(), err error) {
	from, err := m.source()
	if err != nil {
		return nil, err
	}
	return from.Watch(w)
}

// Prefixes implements [bmp.Source].
func (m Monitored) Prefixes(of bmp.Table) ([]netip.Prefix, error) {
	from, err := m.source()
	if err != nil {
		return nil, err
	}
	return from.Prefixes(of)
}

// Updates implements [bmp.Source].
func (m Monitored) Updates(of bmp.Table, prefixes []netip.Prefix) ([]bmp.Update, error) {
	from, err := m.source()
	if err != nil {
		return nil, err
	}
	return from.Updates(of, prefixes)
}

// Counts implements [bmp.Source].
func (m Monitored) Counts() (bmp.Counts, error) {
	from, err := m.source()
	if err != nil {
		return bmp.Counts{}, err
	}
	return from.Counts()
}
