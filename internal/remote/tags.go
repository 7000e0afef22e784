package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"strata/internal/errdef"
	"strata/internal/reference"
)

const (
	maxListPage = 8 << 20
	maxPages    = 1000
)

// Tags lists the tags of ref's repository in the registry's own order, at most limit of them (0: all).
func (c *Client) Tags(ctx context.Context, ref reference.Ref, limit int) ([]string, error) {
	return pull(ctx, c, ref, canResolve, func(e *endpoint) ([]string, error) {
		var tags []string
		r := request{method: http.MethodGet, path: ref.Path + "/tags/list", repo: ref.Path, scopes: pullScope(ref), query: pageSize(limit),
			about: pulled("tags of "+ref.FamiliarName(), ref)}
		err := e.pages(ctx, r, func(raw []byte) (bool, error) {
			var page struct {
				Tags []string `json:"tags"`
			}
			err := json.Unmarshal(raw, &page)
			tags = append(tags, page.Tags...)
			return limit <= 0 || len(tags) < limit, err
		})
		if limit > 0 && len(tags) > limit {
			tags = tags[:limit]
		}
		return tags, err
	})
}

func pageSize(limit int) url.Values {
	if limit <= 0 {
		return nil
	}
	return url.Values{"n": {strconv.Itoa(min(limit, 1000))}}
}

// pages asks for a list page by page, as long as take wants more.
func (e *endpoint) pages(ctx context.Context, r request, take func(raw []byte) (more bool, err error)) error {
	what := r.about.noun
	for range maxPages {
		resp, err := e.do(ctx, r)
		if err != nil {
			return err
		}
		if r.check != nil {
			if err := r.check(resp); err != nil {
				resp.Body.Close()
				return err
			}
		}
		if resp.StatusCode != http.StatusOK {
			return e.refused(resp, r.about)
		}
		raw, err := e.readAll(ctx, resp, r.about, maxListPage)
		resp.Body.Close()
		if err != nil {
			return err
		}
		more, err := take(raw)
		if err != nil {
			return fmt.Errorf("%s: %s sent no list: %w", what, e.name(), errdef.ErrInvalid)
		}
		next := nextLink(resp.Header.Values("Link"))
		if !more || next == "" {
			return nil
		}
		if r.at, err = resp.Request.URL.Parse(next); err != nil || r.at.Scheme != resp.Request.URL.Scheme || r.at.Host != resp.Request.URL.Host {
			return fmt.Errorf("%s: %s continues its list at another place, %.80q: %w", what, e.name(), next, errdef.ErrInvalid)
		}
	}
	return fmt.Errorf("%s: more than %d pages: %w", what, maxPages, errdef.ErrLimit)
}

// nextLink finds the target of rel="next" in Link headers. See RFC 8288, section 3.
func nextLink(headers []string) string {
	for _, h := range headers {
		for h != "" {
			_, rest, open := strings.Cut(h, "<")
			target, rest, closed := strings.Cut(rest, ">")
			if !open || !closed {
				break
			}
			params, more, _ := strings.Cut(rest, "<")
			if isNext(params) {
				return target
			}
			if h = more; more != "" {
				h = "<" + more
			}
		}
	}
	return ""
}

func isNext(params string) bool {
	for p := range strings.FieldsFuncSeq(params, func(r rune) bool { return r == ';' || r == ',' }) {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"`), "next") {
			return true
		}
	}
	return false
}
