"""Recognizes content refusals by the wording of the upstream's messages.

Context matters: "flagged as unsafe" is a refusal, "flagged for retry" is not. English text is normalized to lowercase
words separated by spaces, so PROHIBITED_CONTENT, prohibitedContent and "Prohibited content" are the same.
"""

import re

_MAX_CHARACTERS = 4000
_WORD_BREAKS = re.compile(r"[\W_]+")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _words(pattern: str) -> re.Pattern[str]:
    """Compile alternatives of whole words.

    `~` matches a space, `...` up to three words.
    """
    spaced = pattern.replace("...", r"(\w+\ ){0,3}").replace("~", r"\ ")
    return re.compile(rf"\b(?:{spaced})\b", re.VERBOSE)


_RULES = r"(polic(y|ies)|guidelines?|terms|standards)"
_BAD = r"(unsafe|sensitive|inappropriate|nsfw|harmful|prohibited|offensive|sexual|violen(t|ce)|safety|moderation|violat\w+)"
_IS = r"(is~|was~|were~|has~been~|have~been~|got~)?"
_REFUSAL = _words(rf"""
    # words that only safety systems use
    nsfw | nud(e|es|ity) | naked | porn\w* | obscen\w+ | csam | recitation | spii | gore | gory | deep~?fakes?
    | sexually | sexual~(content|material|acts?) | hate~?speech | hateful | harassment | self~?harm | harm~category
    | responsible~ai | prompt~feedback | block~?reason | image~(safety|prohibited)
    | (dangerous|harmful|offensive|violent|illegal|disallowed|forbidden|restricted|toxic|explicit|graphic|prohibited)
      ~(content|material|imagery)
    # filters and rules
    | safety~(filters?|systems?|settings?|guardrails?|ratings?|violations?|reasons?|concerns?|blocks?|blocked|rules?|{_RULES})
    | content~(filter\w*|restrictions?|violations?|warning|{_RULES})
    | (usage|moderation|acceptable~use|prohibited~use|community|generative~ai)~{_RULES}
    | violat\w+~(of~)?(the~)?{_RULES} | polic(y|ies)~violations?
    | (violat\w+|against|breach\w*)~...(content|usage|safety|use|community|moderation|service|our|their|its|openai|google)
      ~...{_RULES}
    # what was done
    | (content|prompts?|images?|text|inputs?)~{_IS}flagged(?!~(for|to)~re\w+)
    | flagged~(as|for|by|due~to)~...({_BAD}|content|polic(y|ies))
    | (content|prompts?|images?|text)~{_IS}(moderated|censored|prohibited|disallowed)
    | content~{_IS}(blocked|rejected|refused|filtered) | prompt~{_IS}(blocked|filtered)
    | (block|reject|refus|filter|declin|flagg)\w*~...(safety|moderation)
    | (safety|moderation)~...(block|reject|refus|filter|declin|flagg|fail|violat)\w*
    | (due~to|because~of|for|reason)~(\w+~)?safety
    # what was found
    | sensitive~(\w+~)?(content|information|words?|material|topics?|personal(ly)?|subjects?|images?|prompts?)
    | (contain(s|ing)?|too|as|considered|detected|potentially|politically)~(\w+~)?sensitive
    | prohibited~...(prompts?|images?|words?|use) | (show|depict|contain|involv)\w*~...(minors|children|violence|celebrit\w+)
    | copyrighted~(\w+~)?(material|content|characters?) | (copyright|trademark)~(violations?|infring\w+|restrictions?)
    | (violat|infring)\w+~...(copyrights?|trademarks?|intellectual~property)
""")
# Words that indicate a refusal, with the phrases in which they mean something else.
_WITH_EXCEPTIONS = (
    (
        _words("unsafe"),
        _words(r"unsafe~(urls?|redirects?|links?|characters?|paths?|file~?names?|ports?|methods?|headers?)"),
    ),
    (
        _words("inappropriate"),
        _words(
            r"inappropriate~(size|format|type|values?|method|parameters?|resolution|aspect|arguments?|content~type)"
        ),
    ),
    (
        _words(r"(block|deny)list(ed)?|block(ed)?~words?"),
        _words(r"(ip|address|host|domain|key|account|user|url)~...~?(block|deny)list\w*"),
    ),
)
# Refusals that consist of a single word.
_ALONE = re.compile(r"((error|finish|block|reason) )*(safety|sensitive|moderation|prohibited)")
# Other meanings, other kinds of policies, and filters that don't work.
_HARMLESS = _words(r"""
    (case|time|price|cost|latency|position|order|accent|space)~(in)?sensitive
    | (bucket|access|retry|cache|cors|retention|network|firewall|iam|limit|security|storage|billing|routing)(~s)?~polic(y|ies)
    | (safety|moderation|content~filter\w*)~...(timed~out|timeout|unavailable|overloaded|unreachable|not~available)
""")
# Languages without spaces between words, or with many endings.
_OTHER_LANGUAGES = re.compile(
    r"""
    # Chinese, simplified and traditional
    敏感(词|字|内容|信息|人物|话题|图|元素|詞|內容|資訊) | (包?含有?|涉及|存在|涉嫌|命中|触发|觸發|政治)\w{0,8}敏感
    | (内容|提示词|文本|文案|图片|图像|素材|描述|內容|提示詞|圖片|圖像)\w{0,6}
      (违规|违禁|不合规(?!格)|不当|被拦截|被屏蔽|違規|違禁|不合規(?!格)|不當|被攔截|被屏蔽)
    | (违规|违禁|不当|不良|不适宜|有害|違規|違禁|不當|不適宜)的?(内容|词|图|信息|文本|素材|提示|內容|詞|圖|資訊)
    | (违反|触犯|不符合|違反|觸犯)\w{0,12}(政策|条款|法律|法规|社区|使用规|内容规|條款|法規|社區|使用規|內容規)
    | (内容|內容)(安全|审核|审查|政策|策略|过滤|審核|審查|過濾) | 安全(审核|过滤|審核|過濾)
    | (审核|审查|審核|審查)(未|不|没有?|沒有?)能?(通过|通過)
    | 色情 | 情色 | 涉黄 | 涉黃 | 涉政 | 暴恐 | 暴力 | 血腥 | 裸露 | 裸体 | 裸體 | 不雅 | 低俗 | 淫秽 | 淫穢 | 性暗示 | 未成年
    | 侵权 | 侵權 | (版权|版權)(保护|限制|保護)
    # Japanese, Korean
    | 不適切 | (ポリシー|ガイドライン)(に|の)?(違反|反) | コンテンツ(ポリシー|フィルタ) | 性的 | センシティブ | 安全性?フィルタ | 著作権
    | 부적절 | 정책(을|에)?\s?위반 | 콘텐츠\s?(정책|필터) | 안전\s?(필터|정책) | 선정적 | 음란 | 금지된\s?(콘텐츠|내용)
    # Spanish, Portuguese, French, German, Russian
    | \bpol[ií]ticas?\sde\s(conte[nú]\w+|uso|seguridad|segurança)
    | \bconte(nido|údo)s?\s(inapropiado|inadecuado|inapropriado|sensible|sensível|prohibido|proibido|explícito|sexual)
    | \bcontenus?\s(inapproprié|sensible|interdit|explicite|sexuel) | \b(politique|règles)\sde\s(contenu|sécurité)
    | \b(inhalts|nutzungs)richtlinie | \bunangemessene
    | \b(запрещ[её]нн|неприемлем|недопустим|непристойн)\w+\s(контент|содерж|материал|изображ)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_content_refusal(text: str) -> bool:
    """Whether a message says that content was refused."""
    text = text[:_MAX_CHARACTERS]
    if _OTHER_LANGUAGES.search(text):
        return True
    plain = _WORD_BREAKS.sub(" ", _CAMEL_CASE.sub(" ", text)).strip().lower()
    plain = _HARMLESS.sub("-", plain)
    if _REFUSAL.search(plain) or _ALONE.fullmatch(plain):
        return True
    return any(words.search(exception.sub("-", plain)) for words, exception in _WITH_EXCEPTIONS)
