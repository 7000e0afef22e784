package remote

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"

	"strata/internal/config"
	"strata/internal/errdef"
)

// hostsFile is a hosts.toml, in containerd's form: https://github.com/containerd/containerd/blob/main/docs/hosts.md.
type hostsFile struct {
	file   string
	server hostEntry   // where the registry itself is; its URL is empty if the file does not say
	hosts  []hostEntry // in the file's order
}

// hostEntry is what a hosts.toml says of one host.
type hostEntry struct {
	at          place
	can         capability
	ca          []string    // files
	client      [][2]string // files: certificate and key, which can be the same
	skipVerify  bool
	header      http.Header
	dialTimeout time.Duration
}

// place is where a registry's API is.
type place struct {
	scheme string // "https", "http", or "" where that is not said
	host   string
	path   string
}

// hostTable is the form of a host in the file.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	Header       map[string]any `toml:"header"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// parseHosts reads a hosts.toml; file is its name, beside which the files lie that it names. Errors name file and key.
func parseHosts(file string, data []byte) (*hostsFile, error) {
	var doc struct {
		Server string `toml:"server"`
		hostTable
		Host map[string]hostTable `toml:"host"`
	}
	if err := config.Strict(file, data, &doc); err != nil {
		return nil, err
	}
	out := &hostsFile{file: file}
	var err error
	if out.server, err = doc.entry(file, doc.Server); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, errdef.ErrInvalid, err)
	}
	for _, name := range hostOrder(data, doc.Host) {
		e, err := doc.Host[name].entry(file, name)
		if err == nil && name == "" {
			err = errors.New("it has no name")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: host.%q: %w: %w", file, name, errdef.ErrInvalid, err)
		}
		out.hosts = append(out.hosts, e)
	}
	return out, nil
}

// entry checks one host's table.
func (t hostTable) entry(file, name string) (hostEntry, error) {
	e := hostEntry{skipVerify: t.SkipVerify}
	var err error
	if e.at, err = parsePlace(name, t.OverridePath); err != nil {
		return e, err
	}
	if e.can, err = capabilities(t.Capabilities); err != nil {
		return e, err
	}
	dir := filepath.Dir(file)
	ca, err := texts("ca", t.CA)
	if err != nil {
		return e, err
	}
	for _, f := range ca {
		e.ca = append(e.ca, beside(dir, f))
	}
	if e.client, err = clientPairs(dir, t.Client); err != nil {
		return e, err
	}
	if e.header, err = headers(t.Header); err != nil {
		return e, err
	}
	if t.DialTimeout != "" {
		if e.dialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || e.dialTimeout <= 0 {
			return e, fmt.Errorf("dial_timeout: %.40q is no duration like \"5s\"", t.DialTimeout)
		}
	}
	return e, nil
}

// parsePlace reads "https://host:port/path", with containerd's rule for the path: /v2 is added unless it is there or is
// overridden. The empty text is the empty place.
func parsePlace(s string, override bool) (place, error) {
	if s == "" {
		return place{}, nil
	}
	p, rest := place{}, s
	if scheme, r, ok := strings.Cut(s, "://"); ok {
		p.scheme, rest = strings.ToLower(scheme), r
	}
	u, err := url.Parse("//" + rest)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (p.scheme != "" && p.scheme != "http" && p.scheme != "https") {
		return place{}, fmt.Errorf("%.200q is no URL of a registry: want https://HOST[:PORT][/PATH]", s)
	}
	p.host = u.Host
	if u.Path != "" {
		p.path = path.Clean(u.Path)
	}
	p.path = strings.TrimSuffix(p.path, "/")
	if !override && !strings.HasSuffix(p.path, "/v2") {
		p.path += "/v2"
	}
	if p.scheme == "" && !loopback(p.host) {
		p.scheme = "https"
	}
	return p, nil
}

// capabilities reads a list of them; none is all.
func capabilities(words []string) (capability, error) {
	if len(words) == 0 {
		return canAll, nil
	}
	var can capability
	for _, w := range words {
		switch strings.ToLower(w) {
		case "pull":
			can |= canPull
		case "resolve":
			can |= canResolve
		case "push":
			can |= canPush
		case "referrers":
			can |= canRefer
		default:
			return 0, fmt.Errorf("capabilities: %.40q is not one of pull, resolve, push, referrers", w)
		}
	}
	return can, nil
}

// texts is a text or a list of texts.
func texts(key string, v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("%s: want a text or a list of texts", key)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s: want a text or a list of texts", key)
}

// clientPairs reads client: "both.pem", ["both.pem", …] or [["client.cert", "client.key"], …].
func clientPairs(dir string, v any) ([][2]string, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var pairs [][2]string
	for _, x := range list {
		if x == nil {
			continue
		}
		files, err := texts("client", x)
		if err != nil || len(files) == 0 || len(files) > 2 {
			return nil, errors.New("client: want a file, a list of files, or a list of pairs [certificate, key]")
		}
		pair := [2]string{beside(dir, files[0]), beside(dir, files[0])}
		if len(files) == 2 && files[1] != "" {
			pair[1] = beside(dir, files[1])
		}
		pairs = append(pairs, pair)
	}
	return pairs, nil
}

func headers(table map[string]any) (http.Header, error) {
	h := http.Header{}
	for k, v := range table {
		values, err := texts("header."+k, v)
		if err != nil {
			return nil, err
		}
		if _, rest := token(k); rest != "" || k == "" || strings.ContainsFunc(strings.Join(values, ""), unicode.IsControl) {
			return nil, fmt.Errorf("header.%q: it cannot be sent as an HTTP header", k)
		}
		h[http.CanonicalHeaderKey(k)] = values
	}
	return h, nil
}

func beside(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// hostOrder gives the hosts in the order in which the file names them, which a map does not keep.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	add := func(key []string) {
		if len(key) < 2 || key[0] != "host" || slices.Contains(order, key[1]) {
			return
		}
		if _, ok := hosts[key[1]]; ok {
			order = append(order, key[1])
		}
	}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		x := p.Expression()
		key := keyOf(x)
		switch x.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = key
			add(table)
		case unstable.KeyValue:
			full := append(slices.Clone(table), key...)
			add(full)
			for it := x.Value().Children(); x.Value().Kind == unstable.InlineTable && it.Next(); {
				add(append(slices.Clone(full), keyOf(it.Node())...))
			}
		}
	}
	for _, name := range sortedKeys(hosts) {
		add([]string{"host", name})
	}
	return order
}

func keyOf(x *unstable.Node) []string {
	var key []string
	for it := x.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
	}
	return key
}
