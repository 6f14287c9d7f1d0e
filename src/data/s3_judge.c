/* s3_judge.c - S3: what an answer means, as a sentence */
#include "base/clock.h"
#include "base/error.h"
#include "data/s3_internal.h"
#include "data/xml.h"
#include <errno.h>
#include <string.h>

/* What an error's XML says; "" where it does not. */
struct saying {
    char code[64], message[200], region[64], their_time[40];
};

static int error_element(const char *path, const char *text, void *ctx)
{
    struct saying *s = ctx;

    if (strcmp(path, "Error/Code") == 0)
        snprintf(s->code, sizeof s->code, "%s", text);
    else if (strcmp(path, "Error/Message") == 0)
        snprintf(s->message, sizeof s->message, "%.*s",
                 (int)ty_utf8_whole(text, strnlen(text, sizeof s->message - 1)), text);
    else if (strcmp(path, "Error/Region") == 0)
        snprintf(s->region, sizeof s->region, "%s", text);
    else if (strcmp(path, "Error/ServerTime") == 0)
        snprintf(s->their_time, sizeof s->their_time, "%s", text);
    return 0;
}

enum then {
    PLAIN, /* the clause is all */
    KEY,   /* %s is the access key's id */
    CLOCK,
    REGION,
    MATCH, /* 412: of If-Match or of If-None-Match */
    AGAIN
};

static const struct rule {
    const char *code;
    int result;
    enum then then;
    const char *clause;
} rules[] = {
    { "SignatureDoesNotMatch", -EACCES, KEY,
      "the secret key is not the one of access key '%s': check secret_access_key" },
    { "InvalidAccessKeyId", -EACCES, KEY,
      "there is no access key '%s' there: check access_key_id and endpoint" },
    { "InvalidClientTokenId", -EACCES, KEY,
      "there is no access key '%s' there: check access_key_id and endpoint" },
    { "AccessDenied", -EACCES, KEY,
      "access key '%s' has no right to do that: its policy must allow reading, writing and listing here" },
    { "AllAccessDisabled", -EACCES, PLAIN, "all access to it is switched off" },
    { "AccountProblem", -EACCES, PLAIN, "there is a problem with the account" },
    { "ExpiredToken", -EACCES, PLAIN,
      "the session token has expired: register the datastore with a new one" },
    { "InvalidToken", -EACCES, PLAIN,
      "the session token is not valid: register the datastore with a new one" },
    { "TokenRefreshRequired", -EACCES, PLAIN,
      "the session token has expired: register the datastore with a new one" },
    { "RequestTimeTooSkewed", -ETIME, CLOCK, "" },
    { "RequestExpired", -ETIME, CLOCK, "" },
    { "NoSuchBucket", -ENODEV, PLAIN,
      "there is no such bucket: check bucket and endpoint, or register the datastore with create_if_not_exists (--create)" },
    { "InvalidBucketName", -EINVAL, PLAIN, "the store does not accept this name of a bucket" },
    { "NoSuchKey", -ENOENT, PLAIN, "there is no such object" },
    { "NoSuchVersion", -ENOENT, PLAIN, "there is no such object" },
    { "NoSuchUpload", -ENOENT, PLAIN, "the unfinished upload is not there any more" },
    { "InvalidPart", -ESTALE, PLAIN, "a part of the upload is not there any more" },
    { "InvalidPartOrder", -EPROTO, PLAIN, "the parts are not in order" },
    { "EntityTooSmall", -EPROTO, PLAIN, "a part is smaller than the store accepts" },
    { "EntityTooLarge", -EFBIG, PLAIN, "it is larger than the store accepts" },
    { "PreconditionFailed", 0, MATCH, "" },
    { "BadDigest", -EBADMSG, PLAIN, "what arrived is not what was sent: its MD5 is another one" },
    { "InvalidDigest", -EBADMSG, PLAIN, "the store does not accept the MD5" },
    { "XAmzContentSHA256Mismatch", -EBADMSG, PLAIN,
      "what arrived is not what was sent: its SHA-256 is another one" },
    { "IncompleteBody", -EAGAIN, AGAIN, "only a part of it arrived" },
    { "BucketAlreadyOwnedByYou", -EEXIST, PLAIN, "it is there already" },
    { "BucketAlreadyExists", -EEXIST, PLAIN, "there is a bucket of that name already" },
    { "PermanentRedirect", -EINVAL, REGION, "" },
    { "TemporaryRedirect", -EINVAL, REGION, "" },
    { "AuthorizationHeaderMalformed", -EINVAL, REGION, "" },
    { "IllegalLocationConstraintException", -EINVAL, REGION, "" },
    { "InvalidLocationConstraint", -EINVAL, REGION, "" },
    { "InvalidObjectState", -EACCES, PLAIN,
      "the object lies in an archive and must be restored first" },
    { "KeyTooLongError", -ENAMETOOLONG, PLAIN, "the store does not accept so long a name" },
    { "InvalidRange", -ESTALE, PLAIN, "the object became shorter" },
    { "NotImplemented", -EOPNOTSUPP, PLAIN, "the store does not know this operation" },
    { "XMinioStorageFull", -ENOSPC, PLAIN, "the store is full" },
    { "QuotaExceeded", -EDQUOT, PLAIN, "the store's quota is used up" },
    { "SlowDown", -EAGAIN, AGAIN, "the store asks to slow down" },
    { "TooManyRequests", -EAGAIN, AGAIN, "the store asks to slow down" },
    { "RequestLimitExceeded", -EAGAIN, AGAIN, "the store asks to slow down" },
    { "Throttling", -EAGAIN, AGAIN, "the store asks to slow down" },
    { "ServiceUnavailable", -EAGAIN, AGAIN, "the store is not available at the moment" },
    { "InternalError", -EAGAIN, AGAIN, "the store has a fault of its own" },
    { "RequestTimeout", -EAGAIN, AGAIN, "the store waited too long for the rest" },
    { "OperationAborted", -EAGAIN, AGAIN, "somebody else changes it at this moment" },
    { "ConditionalRequestConflict", -EAGAIN, AGAIN, "somebody else changes it at this moment" },
};

/* Answers without XML, as those to HEAD, and of what stands before a store. */
static const char *code_of_status(long status, bool of_object)
{
    switch (status) {
    case 301:
    case 307:
        return "PermanentRedirect";
    case 401:
    case 403:
        return "AccessDenied";
    case 404:
        return of_object ? "NoSuchKey" : "NoSuchBucket";
    case 408:
        return "RequestTimeout";
    case 412:
        return "PreconditionFailed";
    case 416:
        return "InvalidRange";
    case 429:
        return "SlowDown";
    case 500:
    case 502:
    case 504:
        return "InternalError";
    case 501:
        return "NotImplemented";
    case 503:
        return "ServiceUnavailable";
    }
    return "";
}

static int say_region(const struct ty_s3_store *s, const struct ty_http_req *r,
                      const struct saying *said, const char *doing, const char *path,
                      struct ty_error *err)
{
    const char *region = ty_http_answer(r, "x-amz-bucket-region");

    if (!region || !*region)
        region = said->region;
    if (*region && strcmp(region, s->region) != 0)
        return ty_object_say(
            &s->base, doing, path, -EINVAL, err,
            "the bucket is in region '%s', not '%s': register the datastore with that region",
            region, s->region);
    return ty_object_say(
        &s->base, doing, path, -EINVAL, err,
        "the bucket is not served at this address or region ('%s'): check region and endpoint%s%s",
        s->region, *said->message ? "; the store says: " : "", said->message);
}

static int say_rule(const struct ty_s3_store *s, const struct ty_http_req *r, const struct rule *k,
                    const struct saying *said, const char *doing, const char *path, int *again_ms,
                    struct ty_error *err)
{
    int w;

    switch (k->then) {
    case KEY:
        if (!s->key_id)
            return ty_object_say(
                &s->base, doing, path, -EACCES, err,
                "it needs a key: register the datastore with access_key_id and secret_access_key");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        return ty_object_say(&s->base, doing, path, k->result, err, k->clause, s->key_id);
#pragma GCC diagnostic pop
    case CLOCK:
        w = ty_object_judge_clock(&s->base, r, doing, path,
                                  *said->their_time ? said->their_time : NULL, err);
        return w < 0 ? w
                     : ty_object_say(
                           &s->base, doing, path, k->result, err,
                           "this machine's clock and the store's are too far apart: set the clock "
                           "(timedatectl set-ntp true)");
    case REGION:
        return say_region(s, r, said, doing, path, err);
    case MATCH:
        if (ty_http_asked(r, "If-None-Match"))
            return ty_object_say(&s->base, doing, path, -EEXIST, err,
                                 "there is such an object already, and overwrite is not set");
        return ty_object_say(&s->base, doing, path, -ESTALE, err,
                             "the object was changed meanwhile");
    case AGAIN:
        w = ty_http_retry_after_ms(r);
        *again_ms = w > 0 ? w : 0;
        return ty_object_say(&s->base, doing, path, k->result, err, "%s (%s)", k->clause,
                             *said->code ? said->code : "no reason given");
    default:
        return ty_object_say(&s->base, doing, path, k->result, err, "%s", k->clause);
    }
}

static bool is_list(const struct ty_http_req *r)
{
    return strcmp(r->method, "GET") == 0 && strstr(r->url, "?list-type=2&");
}

int ty_s3_judge(struct ty_object_store *base, const struct ty_http_req *r, const char *doing,
                const char *path, int *again_ms, struct ty_error *err)
{
    struct ty_s3_store *s = (struct ty_s3_store *)base;
    const char *text = r->text.text ? r->text.text : "", *code;
    struct saying said = { 0 };
    bool good = r->status >= 200 && r->status < 300;

    *again_ms = -1;
    if (r->result < 0)
        return ty_object_judge_result(base, r, doing, path, again_ms, err);
    if (good && is_list(r) && !strstr(text, "<ListBucketResult"))
        return ty_object_say(base, doing, path, -EPROTO, err,
                             "what answers there is no S3: check the endpoint");
    /* The end of an upload in parts may say 200 first, and then that it failed. */
    if (good && (strcmp(r->method, "POST") != 0 || !strstr(text, "<Error>")))
        return 0;
    if (r->text.len > 0)
        ty_xml_each(text, r->text.len, error_element, &said, NULL);
    code = *said.code ? said.code : code_of_status(r->status, path != NULL);
    s->blind |= r->status == 403 && strcmp(r->method, "HEAD") == 0;
    if (strcmp(code, "NotImplemented") == 0 && ty_http_asked(r, "If-None-Match")) {
        if (s->blind)
            return ty_object_say(
                base, doing, path, -EOPNOTSUPP, err,
                "it might replace an object: the key may not look whether there is "
                "one, and the store cannot do so itself; allow the key to read, or "
                "set overwrite");
        s->unconditional =
            true; /* once more without: who must not replace anything has looked before */
        *again_ms = 0;
    }
    if (!*said.code && r->status == 403 &&
        ty_object_judge_clock(base, r, doing, path, NULL, err) == -ETIME)
        return -ETIME; /* an answer to HEAD cannot say so */
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].code, code) == 0)
            return say_rule(s, r, &rules[i], &said, doing, path, again_ms, err);
    if (r->status >= 500 || good) {
        int after = ty_http_retry_after_ms(r);

        *again_ms = after > 0 ? after : 0;
    }
    return ty_object_say(base, doing, path,
                         *again_ms >= 0     ? -EAGAIN
                         : r->status == 403 ? -EACCES
                                            : -EPROTO,
                         err, "it answers %ld%s%s%s%s", r->status, *said.code ? " " : "", said.code,
                         *said.message ? ": " : "", said.message);
}
