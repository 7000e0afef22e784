package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"strata/internal/errdef"
)

const (
	searchDefault = 25 // results, as docker
	searchMost    = 100
)

// Found is one repository that a search found.
type Found struct {
	Name, Description string
	Stars             int
	Official          bool
	Automated         bool
}

// Search asks a registry for repositories by a word; limit 0 is docker's 25. Registries without a search are asked for
// their catalogue: then there are names only.
func (c *Client) Search(ctx context.Context, registry, term string, limit int) ([]Found, error) {
	registry, err := loginName(registry)
	if err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = searchDefault
	}
	limit = min(limit, searchMost)
	s, err := c.site(registry)
	if err != nil {
		return nil, err
	}
	e, err := c.searchEndpoint(ctx, s.server)
	if err != nil {
		return nil, err
	}
	found, err := e.search(ctx, term, limit)
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, errdef.ErrUnsupported) || errors.Is(err, errdef.ErrInvalid) {
		return s.server.catalogue(ctx, term, limit)
	}
	return found, err
}

// searchEndpoint is where a registry is searched: docker.io has another host for that.
func (c *Client) searchEndpoint(ctx context.Context, server *endpoint) (*endpoint, error) {
	base, err := server.base(ctx, subject{noun: "search in " + server.registry})
	if err != nil {
		return nil, err
	}
	at := place{scheme: base.Scheme, host: server.host, path: "/v1"}
	if server.host == dockerHubHost {
		at.host = "index.docker.io"
	}
	entry := server.entry
	entry.at = at
	return c.newEndpoint(server.registry, entry)
}

func (e *endpoint) search(ctx context.Context, term string, limit int) ([]Found, error) {
	about := subject{noun: "search in " + e.registry}
	query := url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}
	resp, err := e.do(ctx, request{method: http.MethodGet, path: "/search", query: query, about: about})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, e.refused(resp, about)
	}
	defer resp.Body.Close()
	raw, err := e.readAll(ctx, resp, about, maxListPage)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Results []struct {
			Name        string `json:"name"`
			Description string `json:"description"`
			Stars       int    `json:"star_count"`
			Official    bool   `json:"is_official"`
			Automated   bool   `json:"is_automated"`
		} `json:"results"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%s: no list of results came: %w", about.noun, errdef.ErrInvalid)
	}
	var found []Found
	for _, r := range doc.Results {
		if len(found) < limit {
			found = append(found, Found(r))
		}
	}
	return found, nil
}

// catalogue looks for the word in the names of all repositories.
func (e *endpoint) catalogue(ctx context.Context, term string, limit int) ([]Found, error) {
	var found []Found
	r := request{method: http.MethodGet, path: "/_catalog", scopes: []string{catalogScope}, about: subject{noun: "list of repositories in " + e.registry}}
	err := e.pages(ctx, r, func(raw []byte) (bool, error) {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		err := json.Unmarshal(raw, &page)
		for _, name := range page.Repositories {
			if strings.Contains(name, strings.ToLower(term)) && len(found) < limit {
				found = append(found, Found{Name: name})
			}
		}
		return len(found) < limit, err
	})
	return found, err
}
