"""What the cache knows of English words: which say nothing, which mean the same, which turn a sentence round."""

# ruff: noqa: E501 # tables of words

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS: Final = _words(
    "not no never none nobody nothing nowhere neither nor without cannot unable hardly barely except excluding avoid"
)

ARTICLES: Final = _words("a an the")
AUXILIARIES: Final = _words(
    "is are was were be been being am do does did done has have had having can could will would shall should may might must"
)
PRONOUNS: Final = _words(
    "i me my mine myself we us our ours you your yours yourself he him his she her hers it its they them their theirs "
    "this that these those there here someone somebody something anyone anybody anything everyone everybody everything "
    "one ones who whom whose which what when where why how whether"
)
# Words that only a conversation gives a meaning. "you" and "I" are the two who talk, and need none.
BACKWARD: Final = _words(
    "it its he him his she her hers they them their theirs this that these those one ones same another previous above "
    "earlier instead again also too former latter else such both either neither there here other others yes no yeah yep "
    "ok okay sure nope continue more back still then so do"
)
FILLERS: Final = _words(
    "please kindly thanks thank hi hello hey dear just really actually basically simply quick quickly question wonder "
    "wondering know tell explain describe give show let help want need like curious exactly very quite so well also too "
    "and or but if then than as of any some get got maybe perhaps anyway though cheers ok okay um uh hmm guys sir madam "
    "wanna gonna gotta lot trying try looking look happen happens would'd ask asking possible possibly able thing things"
)
STOP: Final = ARTICLES | AUXILIARIES | PRONOUNS | FILLERS

# A word's role is the class of the preposition before it: "from Oslo to Rome" is not "from Rome to Oslo".
ROLES: Final[dict[str, int]] = {
    word: number
    for number, words in enumerate(
        (
            "from since out", "to into onto toward towards until till", "in at on within inside during near around",
            "with using via through by", "without", "before under below less fewer beneath",
            "after over above more beyond", "than against", "and or & / between among versus vs", "for", "about regarding",
        ),
        start=1,
    )
    for word in words.split()
}  # fmt: skip
ROLE_FROM: Final = 1
ROLE_TO: Final = 2
ROLE_PLACE: Final = 3
ROLE_WITH: Final = 4
ROLE_WITHOUT: Final = 5
ROLE_BEFORE: Final = 6
ROLE_AFTER: Final = 7
ROLE_THAN: Final = 8
ROLE_JOINED: Final = 9

PREPOSITIONS: Final = frozenset(ROLES) | _words("of per upon across along behind beside despite except like unlike")

# Strength of a claim: bits of a mask.
QUANTIFIERS: Final[dict[str, int]] = {
    word: 1 << number
    for number, words in enumerate(
        (
            "all every each always entire whole everyone everybody everything completely fully", "some several few sometimes partly partially someone certain",
            "only solely exclusively merely alone", "most mostly usually majority generally", "least minimum min minimal lowest smallest fewest",
            "maximum max maximal highest largest biggest greatest", "half", "double twice", "triple", "both", "either", "first", "last final",
            "more", "less fewer", "ever", "almost nearly", "once", "rarely seldom occasionally", "often frequently regularly",
        )
    )
    for word in words.split()
}  # fmt: skip
ALL: Final = 1 << 0
SOME: Final = 1 << 1
ONLY: Final = 1 << 2
EVER: Final = 1 << 15
# One of these on one side only changes the question; the rest is left to the verifier.
# Count only as "the last", "my first": elsewhere they are verbs or order a text.
RANKS: Final = _words("first last final")
DECISIVE: Final = sum(1 << number for number in (2, 4, 5, 6, 7, 8, 11, 12, 18))

NUMBER_WORDS: Final[dict[str, str]] = {
    word: str(number)
    for number, word in enumerate(
        "zero . two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen".split()
    )
    if word != "."
} | {
    "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "dozen": "12", "second": "2",
    "third": "3", "fourth": "4", "fifth": "5", "sixth": "6", "seventh": "7", "eighth": "8", "ninth": "9", "tenth": "10",
    "quarter": "0.25",
}  # fmt: skip

MONTHS: Final = _words("january february march april may june july august september october november december")
WEEKDAYS: Final = _words("monday tuesday wednesday thursday friday saturday sunday")
SHORT_DATES: Final[dict[str, str]] = {
    **{name[:3]: name for name in MONTHS - {"may", "march"}}, "sept": "september",
    "mon": "monday", "tue": "tuesday", "tues": "tuesday", "thu": "thursday", "thurs": "thursday", "fri": "friday",
}  # fmt: skip

# Units, by what they are called.
UNITS: Final[dict[str, str]] = {
    word: group.split()[0]
    for group in (
        "kilogram kg kgs kilo kilograms kilos", "gram g grams gr", "milligram mg milligrams", "pound lb lbs pounds", "ounce oz ounces", "tonne ton tons tonnes",
        "kilometre km kms kilometer kilometers kilometres", "metre m meter meters metres", "centimetre cm centimeter centimeters centimetres",
        "millimetre mm millimeter millimeters millimetres", "mile mi miles", "foot ft feet", "inch inches", "yard yards yd",
        "litre l liter liters litres", "millilitre ml milliliter milliliters millilitres", "gallon gallons gal", "cup cups", "tablespoon tablespoons tbsp", "teaspoon teaspoons tsp", "pint pints",
        "second seconds sec secs", "minute minutes min mins", "hour hours hr hrs hourly", "day days daily", "week weeks weekly", "month months monthly",
        "year years yr yrs yearly annual annually", "decade decades", "century centuries", "millisecond ms milliseconds",
        "celsius centigrade", "fahrenheit", "kelvin", "percent percentage %", "dollar dollars usd $ bucks", "euro euros eur €", "pound-sterling gbp £ quid",
        "yen jpy ¥", "rupee rupees inr ₹", "cent cents", "watt watts w", "kilowatt kw kilowatts", "volt volts v", "joule joules", "calorie calories kcal",
        "byte bytes", "kilobyte kb kilobytes", "megabyte mb megabytes", "gigabyte gb gigabytes", "terabyte tb terabytes", "acre acres", "hectare hectares", "mph", "kmh kph",
        "am a.m", "pm p.m", "degree degrees", "radian radians",
    )
    for word in group.split()
}  # fmt: skip
CURRENCIES: Final = frozenset("$€£¥₹")
# Too short or too common to be a unit without a number before them.
UNITS_AFTER_NUMBERS: Final = _words(
    "g m l w v second seconds sec min mi am a.m gal foot cup cups pound pounds yard degree degrees"
)

# Names in small letters, since many people type so.
NAMES: Final = _words(
    """afghanistan albania algeria argentina armenia australia austria bangladesh belgium bolivia brazil bulgaria cambodia cameroon canada chile
    china colombia croatia cuba cyprus denmark ecuador egypt england estonia ethiopia finland france germany ghana greece hungary iceland india
    indonesia iran iraq ireland israel italy jamaica japan jordan kenya korea kuwait latvia lebanon libya lithuania luxembourg malaysia malta
    mexico mongolia morocco nepal netherlands nigeria norway pakistan panama peru philippines poland portugal qatar romania russia scotland
    senegal serbia singapore slovakia slovenia somalia spain sudan sweden switzerland syria taiwan tanzania thailand tunisia turkey uganda
    ukraine uruguay usa uk eu uae venezuela vietnam wales yemen zambia zimbabwe europe asia africa america
    alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois indiana iowa kansas kentucky
    louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada ohio oklahoma oregon pennsylvania
    tennessee texas utah vermont virginia washington wisconsin wyoming ontario quebec
    amsterdam athens atlanta auckland bangkok barcelona beijing berlin birmingham boston bristol brussels budapest cairo cardiff chicago copenhagen
    dallas delhi denver detroit dubai dublin edinburgh florence frankfurt geneva glasgow hamburg helsinki houston istanbul jakarta johannesburg karachi
    kyoto lagos leeds lima lisbon liverpool london lyon madrid manchester melbourne miami milan montreal moscow mumbai munich nairobi naples
    nyc osaka oslo paris perth philadelphia phoenix prague rome seattle seoul shanghai stockholm sydney tokyo toronto vancouver venice vienna
    warsaw zurich
    english french german spanish italian portuguese dutch russian chinese mandarin cantonese japanese korean arabic hindi turkish polish swedish
    norwegian danish finnish greek hebrew latin vietnamese thai ukrainian welsh irish american british canadian australian indian european asian
    african mexican brazilian scottish
    python javascript typescript java rust golang ruby php kotlin swift perl scala haskell sql mysql postgresql postgres sqlite mongodb redis kafka
    react angular vue django flask nodejs docker kubernetes git github gitlab linux windows macos ubuntu debian fedora android ios iphone ipad
    excel word powerpoint outlook gmail yahoo google bing amazon aws azure gcp microsoft apple facebook instagram twitter whatsapp tiktok youtube
    netflix spotify uber airbnb paypal venmo visa mastercard tesla toyota honda ford bmw samsung nokia sony intel amd nvidia oracle slack zoom
    shopify ebay walmart linkedin reddit snapchat pinterest telegram wordpress firefox chrome safari
    mercury venus mars jupiter saturn uranus neptune pluto einstein newton darwin shakespeare mozart beethoven napoleon
    christmas easter ramadan diwali thanksgiving halloween
    ibuprofen aspirin paracetamol acetaminophen penicillin insulin amoxicillin metformin
    covid flu hiv bitcoin ethereum"""
)

# Pairs of words that turn a question round.
_OPPOSITES: Final = """
on/off enable/disable before/after open/close open/closed open/shut start/stop start/end begin/end begin/finish buy/sell increase/decrease
increase/reduce raise/lower rise/fall up/down upload/download import/export accept/reject accept/decline approve/reject approve/deny allow/block
allow/forbid allow/ban allow/prevent permit/forbid allow/deny legal/illegal lawful/unlawful lock/unlock add/remove add/delete insert/delete
create/delete create/destroy hot/cold warm/cool big/small large/small long/short tall/short high/low highest/lowest more/less most/least
best/worst better/worse good/bad easy/hard easy/difficult simple/complex fast/slow quick/slow early/late earliest/latest new/old newest/oldest
young/old cheap/expensive cheapest/expensive rich/poor strong/weak heavy/light dark/light dark/bright thick/thin wide/narrow deep/shallow
full/empty first/last win/lose won/lost love/hate like/dislike true/false right/wrong correct/incorrect correct/wrong male/female man/woman
men/women boy/girl husband/wife mother/father mom/dad son/daughter brother/sister uncle/aunt king/queen left/right north/south east/west
northern/southern eastern/western top/bottom front/back inside/outside indoor/outdoor internal/external interior/exterior public/private
input/output positive/negative plus/minus add/subtract multiply/divide minimum/maximum min/max ascending/descending encrypt/decrypt
encode/decode compress/decompress install/uninstall subscribe/unsubscribe connect/disconnect attach/detach push/pull send/receive give/take
lend/borrow arrive/depart arrival/departure enter/exit enter/leave join/leave join/split merge/split gain/lose gain/loss profit/loss
income/expense asset/liability asset/debt debit/credit hire/fire employ/fire pass/fail success/failure succeed/fail safe/dangerous safe/risky
safe/unsafe healthy/unhealthy dead/alive death/birth born/die live/die war/peace day/night morning/evening summer/winter spring/autumn
spring/fall liquid/solid acid/base acidic/alkaline attack/defend expand/shrink expand/contract expand/collapse show/hide visible/hidden
visible/invisible include/exclude including/excluding with/without inclusive/exclusive above/below over/under ahead/behind near/far
forward/backward clockwise/counterclockwise advantage/disadvantage advantage/drawback benefit/drawback benefit/risk pro/con strength/weakness
cause/effect cause/prevent cause/cure cause/treatment cause/symptom symptom/treatment question/answer sender/recipient buyer/seller
landlord/tenant employer/employee teacher/student doctor/patient master/slave client/server winner/loser refundable/nonrefundable
deductible/nondeductible domestic/international domestic/foreign local/remote local/global online/offline wet/dry sweet/sour smooth/rough soft/hard
loud/quiet happy/sad rural/urban ancient/modern temporary/permanent optional/mandatory optional/required voluntary/mandatory voluntary/compulsory
personal/business singular/plural prefix/suffix vertical/horizontal optimistic/pessimistic odd/even prime/composite integer/fraction
numerator/denominator row/column mutable/immutable static/dynamic synchronous/asynchronous sync/async serial/parallel client/supplier
gross/net fixed/variable fixed/floating fresh/frozen raw/cooked mount/unmount freeze/thaw boil/freeze melt/freeze charge/discharge
charge/refund deposit/withdraw deposit/withdrawal save/spend win/defeat freedom/slavery guilty/innocent awake/asleep remember/forget
pause/resume activate/deactivate register/deregister check-in/check-out checkin/checkout opt-in/opt-out login/logout sign-in/sign-out
follow/unfollow follow/block mute/unmute zip/unzip pack/unpack load/unload fold/unfold show/conceal reveal/conceal hypo/hyper
hypertension/hypotension hyperglycemia/hypoglycemia inhale/exhale predator/prey vowel/consonant import/smuggle major/minor senior/junior
adult/child parent/child ceiling/floor floor/roof upstairs/downstairs past/future past/present previous/next older/younger larger/smaller
longer/shorter higher/lower faster/slower cheaper/pricier hotter/colder taller/shorter bigger/smaller greater/smaller greater/lesser maximize/minimize
maximise/minimise optimal/worst encourage/discourage support/oppose agree/disagree appear/disappear trust/distrust obey/disobey
honest/dishonest polite/rude friendly/hostile single/married marry/divorce marriage/divorce freeze/unfreeze cancel/renew cancel/confirm cancel/keep
cancel/book cancel/schedule cancel/resume activate/cancel subscribe/cancel upgrade/downgrade promote/demote ally/enemy friend/enemy
hero/villain comedy/tragedy fiction/nonfiction theory/practice supply/demand wholesale/retail lease/buy rent/buy rent/own
import/exporting occupied/vacant available/unavailable possible/impossible regular/irregular relevant/irrelevant mature/immature
formal/informal direct/indirect dependent/independent finite/infinite literate/illiterate rational/irrational stable/unstable
"""


def _opposites() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _OPPOSITES.split():
        one, other = pair.split("/")
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES: Final = _opposites()
# What a prefix turns round. Left out: words that only look so.
NEGATING_PREFIXES: Final = ("non-", "un", "dis", "non", "in", "im", "ir", "il", "de", "mis")
NOT_PREFIXED: Final = _words(
    "until under unit united union universe university unique uncle understand universal unless inform information income "
    "increase include industry invest internet interest international inside into install instance intel image imagine improve "
    "important import impact impose discuss distance discover disease display district discount dish disk iron irish illness "
    "device develop detail design decide defend degree delay deliver demand depend describe detect department deposit debate "
    "invent involve indian index india initial input insurance intend introduce indicate individual inflation influence impress "
    "distribute mission miss missing mist impart depart inquire deduct deduction demonstrate define defeat deal dealer dean den "
    "dent declare imply improve implement universe unite interview integer inch inches deform inform invoice indeed distinct"
)

# Different words for one meaning: the first stands for all.
_SAME: Final = """
buy purchase buying purchasing bought acquire|big large huge|small little tiny|start begin commence launch started beginning|end finish|fix repair mend solve resolve
error problem issue fault bug trouble|fast quick rapid speedy|delete erase remove|create make build produce generate made|car automobile|movie film|picture photo image photograph
doctor physician|job work occupation|phone telephone cellphone smartphone mobile|tv television|child kid children kids|cheap inexpensive affordable|cost price fee charge priced
happy glad|sad unhappy|hard difficult tough|easy simple straightforward|smart intelligent clever|choose select pick|help assist aid|use utilize utilise employ usage|change modify alter amend edit
update refresh|show display|stop cease halt quit|cancel terminate|reset recover restore|refund reimbursement reimburse repayment|return send-back|shop store|rubbish trash garbage|holiday vacation
lawyer attorney solicitor|flat apartment|lift elevator|petrol gas gasoline|autumn fall|film movie|method way approach technique manner|difference distinction differ differences|benefit advantage perk upside pro
drawback disadvantage downside con|reason cause why|purpose aim goal objective|require need necessary required|allow permit let|forbid prohibit ban|reply answer respond response|earn gain obtain receive
begin start|gather collect|ill sick unwell|illness disease sickness|medicine medication drug meds|ache pain|exercise workout|weight-loss slim|wealthy rich|company firm business corporation organisation organization
boss manager|worker employee staff|salary pay wage wages paycheck|tax taxes|house home|meeting appointment|trip journey travel|location place spot|country nation|city town|build construct
calculate compute|work-out determine|average mean|discover find locate search|contain include|example instance sample|type kind sort category|part component piece|famous well-known renowned|rule law regulation
child kid|student pupil|teacher instructor tutor|university college|learn study|book reserve booking reservation|ticket pass|password passcode|email e-mail mail|website site webpage|app application
account profile|login log-in sign-in signin|send mail ship post|deliver delivery ship shipping shipment|package parcel|invoice bill|payment pay paid|subscription plan membership|switch change|turn
warranty guarantee|opening hours|food meal|cook prepare|wash clean|speak talk|say tell|say state|author writer|invent invention|invented|discover discovered|kill murder|die death dead died|war conflict
begin began begun|main primary principal chief major key|important significant crucial|correct right|wrong incorrect|definition define meaning mean means meant|symptom sign signs symptoms|treat treatment cure remedy
prevent avoid|increase raise boost improve grow|reduce lower decrease cut lessen diminish|improve enhance better|destroy ruin|happen occur|big|quickly fast|smartphone|laptop notebook|function operate work works working|get obtain
recommend suggest advise recommendation|compare comparison|list enumerate|summary summarise summarize|translate translation|write compose draft|programme program|colour color|centre center|favourite favorite|organise organize
licence license|cheque check|tyre tire|aeroplane airplane plane aircraft|maths math mathematics|advert ad advertisement|exam test examination|info information|photo|photos|repo repository|config configuration|db database|dir directory folder
function method|cancel|minimum least|maximum most|kids|people persons folks|person human|money cash|woman lady|man guy|close shut|near close-to|lot many|enough sufficient|dangerous unsafe hazardous risky|safe secure
"""


def _same() -> dict[str, str]:
    canonical: dict[str, str] = {}
    for group in _SAME.replace("\n", "|").split("|"):
        words = group.split()
        for word in words:
            canonical.setdefault(word, words[0])
    return {word: canonical.get(first, first) for word, first in canonical.items() if word != first}


SAME: Final = _same()

PHRASES: Final[dict[tuple[str, ...], str]] = {
    tuple(phrase.split()): word
    for phrase, word in {
        "united states": "usa", "united states of america": "usa", "the us": "usa", "the states": "usa", "united kingdom": "uk", "great britain": "uk",
        "new york city": "nyc", "new york": "nyc", "turn on": "enable", "switch on": "enable", "turn off": "disable", "switch off": "disable",
        "set up": "install", "get rid of": "remove", "sign up": "register", "sign in": "login", "log in": "login", "sign out": "logout", "log out": "logout",
        "log on": "login", "find out": "discover", "work out": "calculate", "figure out": "calculate", "look for": "find", "how come": "why",
        "artificial intelligence": "ai", "machine learning": "ml", "operating system": "os", "a lot of": "many", "as well as": "and",
        "phone number": "phone-number", "at least": "minimum", "at most": "maximum", "no more than": "maximum", "no less than": "minimum", "not only": "also",
        "more than": "over", "less than": "under", "fewer than": "under", "in front of": "before", "opt in": "opt-in", "opt out": "opt-out", "check in": "checkin", "check out": "checkout",
        "give back": "return", "send back": "return", "bring back": "return", "money back": "refund", "carry on": "continue", "put off": "postpone",
        "no longer": "stop", "call off": "cancel", "due to": "because", "look after": "care", "such as": "like", "as soon as": "when",
    }.items()
}  # fmt: skip
LONGEST_PHRASE: Final = max(map(len, PHRASES))
PHRASE_STARTS: Final = frozenset(phrase[0] for phrase in PHRASES)

CONTRACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "can't": ("can", "not"), "cant": ("can", "not"), "cannot": ("can", "not"), "won't": ("will", "not"), "wont": ("will", "not"),
    "shan't": ("shall", "not"), "dont": ("do", "not"), "doesnt": ("does", "not"), "didnt": ("did", "not"), "isnt": ("is", "not"),
    "arent": ("are", "not"), "wasnt": ("was", "not"), "couldnt": ("could", "not"), "shouldnt": ("should", "not"), "wouldnt": ("would", "not"),
    "whats": ("what", "is"), "wheres": ("where", "is"), "hows": ("how", "is"), "whos": ("who", "is"), "im": ("i", "am"), "ive": ("i", "have"),
    "let's": ("let", "us"), "unable": ("not", "able"),
}  # fmt: skip
ENDINGS: Final[dict[str, str]] = {
    "n't": "not", "'s": "", "'re": "are", "'m": "am", "'ve": "have", "'ll": "will", "'d": "would"
}  # fmt: skip

# What an answer may depend on beside the words.
TIME_WORDS: Final = _words(
    "today tonight tomorrow yesterday now currently current latest recent recently nowadays upcoming newest lately weather forecast"
)
TIME_SPANS: Final = _words("week month year morning afternoon evening night weekend season quarter")
POSSESSIVES: Final = _words("my mine our ours")
PERSONAL: Final = _words(
    "order balance salary name email address number appointment booking reservation invoice bill statement transaction "
    "schedule calendar location birthday age score grade history basket cart delivery parcel package results result "
    "ticket claim flight payment payments refund usage contract policy records record"
)

# The commonest small words of languages that share the Latin script; what is neither is taken for English.
LANGUAGES: Final[dict[str, frozenset[str]]] = {
    "en": _words("a an as or by the is are of and to what how do does can why who when where for with this that it you i my in on at be was"),
    "de": _words("der die das und ist wie was warum wer wann wo ich nicht ein eine mit für auf zu den dem von kann mein sind werden"),
    "fr": _words("le la les des est et que qui quoi comment pourquoi où quand je ne pas un une dans pour avec sur du mon sont"),
    "es": _words("el la los las es y que qué cómo por para quién cuándo dónde un una con mi del son está se en"),
    "it": _words("il lo la gli è che come perché chi quando dove un una con per mio del sono non di posso"),
    "pt": _words("os é que como por porque quem quando onde um uma com para meu da não são em uma pelo das"),
    "nl": _words("de het een is en wat hoe waarom wie wanneer waar ik niet met voor op te van mijn zijn kan"),
}  # fmt: skip
