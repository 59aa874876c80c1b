package ipam

import (
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// maxPodMTUs bounds how many former MTUs are remembered.
const maxPodMTUs = 16

// PodMTUs returns the MTUs that this node gave to pods by default, in bytes, the
// latest first. A pod with another one has chosen it.
func (s *Store) PodMTUs() ([]int, error) {
	var out []int
	err := s.view(func(tx *bolt.Tx) (err error) {
		out, err = podMTUs(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read MTUs of pods: %w", err)
	}
	return out, nil
}

// NotePodMTU makes mtu the latest of [Store.PodMTUs]. It is called before any
// pod gets it.
func (s *Store) NotePodMTU(mtu int) error {
	err := s.update(func(tx *bolt.Tx) error {
		old, err := podMTUs(tx)
		if err != nil {
			return err
		}
		all := append([]int{mtu}, slices.DeleteFunc(old, func(o int) bool { return o == mtu })...)
		var v []byte
		for _, m := range all[:min(len(all), maxPodMTUs)] {
			v = binary.AppendUvarint(v, uint64(max(m, 0)))
		}
		return putMeta(tx, metaPodMTUs, v)
	})
	if err != nil {
		return fmt.Errorf("write MTU of pods: %w", err)
	}
	return nil
}

func podMTUs(tx *bolt.Tx) ([]int, error) {
	v, err := getMeta(tx, metaPodMTUs)
	if err != nil {
		return nil, err
	}
	var out []int
	for len(v) > 0 {
		m, n := binary.Uvarint(v)
		if n <= 0 || m > 1<<16 {
			return nil, fmt.Errorf("%w: meta %q: malformed", ErrCorrupt, metaPodMTUs)
		}
		out, v = append(out, int(m)), v[n:]
	}
	return out, nil
}
