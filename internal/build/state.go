package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
)

// state is the result of a vertex: the tree that a step leaves, as a stack of layers, base first.
type state struct {
	Layers []oci.DiffID `json:"layers"`
}

func (s state) encode() (json.RawMessage, error) {
	if s.Layers == nil {
		s.Layers = []oci.DiffID{}
	}
	return json.Marshal(s)
}

func decodeState(raw json.RawMessage) (state, error) {
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("build step's result: %w: %w", errdef.ErrCorrupt, err)
	}
	for _, id := range s.Layers {
		if _, err := oci.ParseDiffID(string(id)); err != nil {
			return state{}, fmt.Errorf("build step's result: %w: %w", errdef.ErrCorrupt, err)
		}
	}
	return s, nil
}

// then is the state after a step that made m; a step without changes makes an empty Meta.
func (s state) then(m layer.Meta) state {
	if m.DiffID == "" {
		return s
	}
	return state{append(s.Layers[:len(s.Layers):len(s.Layers)], m.DiffID)}
}

// holder pins the layers of states, each once.
type holder struct {
	layers Layers
	hold   func(ctx context.Context, names ...string) error

	mu   sync.Mutex
	held map[oci.DiffID]bool
}

// all pins every layer that result names and reports whether all of them exist.
func (h *holder) all(ctx context.Context, result json.RawMessage) (bool, error) {
	s, err := decodeState(result)
	if err != nil {
		return false, nil // an entry that nobody can use
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []oci.DiffID
	var names []string
	for _, id := range s.Layers {
		if !h.held[id] {
			ids = append(ids, id)
			names = append(names, "layer:"+id.Hex())
		}
	}
	if len(ids) == 0 {
		return true, nil
	}
	if err := h.hold(ctx, names...); err != nil {
		return false, err
	}
	for _, id := range ids {
		if _, err := h.layers.Stat(id); errors.Is(err, errdef.ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		h.held[id] = true
	}
	return true, nil
}
