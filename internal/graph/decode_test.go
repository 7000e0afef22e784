package graph

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzDecodeEntry(f *testing.F) {
	key := strings.Repeat("0a", 32)
	f.Add([]byte(`{"key":"` + key + `","definition":"` + key + `","name":"RUN make","lines":[{"n":"a","v":"b"}],"result":{"layers":[]}}`))
	f.Add([]byte(`{"key":"","result":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decodeEntry(raw)
		if err != nil {
			return
		}
		if !e.Key.valid() || !e.Definition.valid() || !json.Valid(e.Result) {
			t.Fatalf("took %q", raw)
		}
		Explain(e.Lines, nil)
	})
}
