"""The plain word lists behind the training text.

A table is written as ``left: right`` pairs, one after another, parted by semicolons; a list is
written as words parted by semicolons.  Nothing here is random.
"""

from __future__ import annotations

Pairs = list[tuple[str, str]]


def words(text: str) -> list[str]:
    """Split a semicolon list; every entry must be there once."""
    entries = [" ".join(part.split()) for part in text.split(";") if part.strip()]
    if len(set(entries)) != len(entries):
        raise ValueError(f"an entry occurs twice in {text[:40]!r}")
    return entries


def pairs(text: str) -> Pairs:
    """Split a semicolon table of ``left: right``; every left side must be there once."""
    table: Pairs = []
    for entry in words(text):
        left, _, right = entry.partition(": ")
        table.append((left, right))
    if len({left for left, _ in table}) != len(table):
        raise ValueError(f"a left side occurs twice in {text[:40]!r}")
    return table


CAPITALS = pairs("""
France: Paris; Germany: Berlin; Italy: Rome; Spain: Madrid; Portugal: Lisbon; Ireland: Dublin;
Belgium: Brussels; Austria: Vienna; Poland: Warsaw; Hungary: Budapest; Greece: Athens;
Sweden: Stockholm; Norway: Oslo; Denmark: Copenhagen; Finland: Helsinki; Iceland: Reykjavik;
Estonia: Tallinn; Latvia: Riga; Lithuania: Vilnius; Romania: Bucharest; Bulgaria: Sofia;
Croatia: Zagreb; Slovenia: Ljubljana; Slovakia: Bratislava; Albania: Tirana; Malta: Valletta;
Serbia: Belgrade; Montenegro: Podgorica; Moldova: Chisinau; Ukraine: Kyiv; Russia: Moscow;
Andorra: Andorra la Vella; Liechtenstein: Vaduz; the United Kingdom: London;
the Netherlands: Amsterdam; the Czech Republic: Prague; the United States: Washington;
Canada: Ottawa; Mexico: Mexico City; Cuba: Havana; Jamaica: Kingston; Haiti: Port-au-Prince;
the Dominican Republic: Santo Domingo; the Bahamas: Nassau; Barbados: Bridgetown;
Guatemala: Guatemala City; Honduras: Tegucigalpa; Nicaragua: Managua; Belize: Belmopan;
Panama: Panama City; El Salvador: San Salvador; Costa Rica: San Jose; Grenada: Saint George's;
Brazil: Brasilia; Argentina: Buenos Aires; Chile: Santiago; Peru: Lima; Colombia: Bogota;
Venezuela: Caracas; Ecuador: Quito; Uruguay: Montevideo; Paraguay: Asuncion;
Guyana: Georgetown; Suriname: Paramaribo; Dominica: Roseau; Saint Lucia: Castries;
Japan: Tokyo; China: Beijing; Mongolia: Ulaanbaatar; India: New Delhi; Nepal: Kathmandu;
Bhutan: Thimphu; Bangladesh: Dhaka; Pakistan: Islamabad; Afghanistan: Kabul; Iran: Tehran;
Iraq: Baghdad; Jordan: Amman; Lebanon: Beirut; Oman: Muscat; Qatar: Doha; Bahrain: Manama;
Kuwait: Kuwait City; Saudi Arabia: Riyadh; the United Arab Emirates: Abu Dhabi;
Turkey: Ankara; Armenia: Yerevan; Azerbaijan: Baku; Kazakhstan: Astana; Uzbekistan: Tashkent;
Kyrgyzstan: Bishkek; Tajikistan: Dushanbe; Turkmenistan: Ashgabat; Thailand: Bangkok;
Vietnam: Hanoi; Laos: Vientiane; Cambodia: Phnom Penh;
the Philippines: Manila; South Korea: Seoul; Brunei: Bandar Seri Begawan; the Maldives: Male;
Egypt: Cairo; Morocco: Rabat; Algeria: Algiers; Tunisia: Tunis; Libya: Tripoli;
Ethiopia: Addis Ababa; Kenya: Nairobi; Uganda: Kampala; Rwanda: Kigali; Tanzania: Dodoma;
Nigeria: Abuja; Ghana: Accra; Senegal: Dakar; Mali: Bamako; Niger: Niamey; Chad: N'Djamena;
Togo: Lome; Liberia: Monrovia; Sierra Leone: Freetown; Guinea: Conakry; Cameroon: Yaounde;
Gabon: Libreville; Angola: Luanda; Zambia: Lusaka; Zimbabwe: Harare; Mozambique: Maputo;
Malawi: Lilongwe; Namibia: Windhoek; Botswana: Gaborone; Lesotho: Maseru;
Madagascar: Antananarivo; Mauritius: Port Louis; Somalia: Mogadishu; Eritrea: Asmara;
Burkina Faso: Ouagadougou; the Gambia: Banjul; Cape Verde: Praia;
Australia: Canberra; New Zealand: Wellington; Fiji: Suva; Samoa: Apia; Tonga: Nuku'alofa;
Vanuatu: Port Vila; Papua New Guinea: Port Moresby; Palau: Ngerulmud; Tuvalu: Funafuti
""")

CONTINENTS = pairs("""
France: Europe; Germany: Europe; Italy: Europe; Spain: Europe; Portugal: Europe; Poland: Europe;
Greece: Europe; Sweden: Europe; Norway: Europe; Finland: Europe; Ireland: Europe;
Austria: Europe; Hungary: Europe; Belgium: Europe; Japan: Asia; China: Asia; India: Asia;
Nepal: Asia; Mongolia: Asia; Thailand: Asia; Vietnam: Asia; Laos: Asia; Iraq: Asia; Bhutan: Asia;
Jordan: Asia; Oman: Asia; Kenya: Africa; Ghana: Africa; Nigeria: Africa; Mali: Africa;
Angola: Africa; Zambia: Africa; Uganda: Africa; Morocco: Africa; Senegal: Africa; Chad: Africa;
Brazil: South America; Peru: South America; Chile: South America; Argentina: South America;
Ecuador: South America; Uruguay: South America; Colombia: South America;
Canada: North America; Mexico: North America; Cuba: North America; Jamaica: North America
""")

OPPOSITES = pairs("""
hot: cold; big: small; tall: short; fast: slow; happy: sad; light: dark; day: night; up: down;
left: right; open: closed; full: empty; old: young; hard: soft; loud: quiet; wet: dry;
clean: dirty; strong: weak; rich: poor; early: late; near: far; high: low; good: bad;
black: white; thick: thin; wide: narrow; deep: shallow; rough: smooth; sharp: blunt;
sweet: sour; true: false; front: back; top: bottom; inside: outside; above: below; in: out;
on: off; first: last; win: lose; buy: sell; push: pull; give: take; come: go; start: stop;
begin: end; love: hate; laugh: cry; live: die; find: hide; ask: answer; rise: fall;
arrive: leave; remember: forget; teach: learn; build: destroy; brave: cowardly; kind: cruel;
easy: difficult; cheap: expensive; awake: asleep; alive: dead;
wild: tame; wise: foolish; polite: rude; safe: dangerous; calm: stormy; straight: crooked;
tight: loose; fresh: stale; raw: cooked; simple: complex; summer: winter; morning: evening;
north: south; east: west; friend: enemy; peace: war; victory: defeat;
success: failure; always: never; everything: nothing; more: less; many: few; with: without;
before: after; here: there; yes: no; same: different; ancient: modern; guilty: innocent;
visible: invisible; possible: impossible; lucky: unlucky; lazy: hardworking
""")

DAYS = words("Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday")
MONTHS = words("""January; February; March; April; May; June; July; August; September; October;
November; December""")
ORDINALS = words("""first; second; third; fourth; fifth; sixth; seventh; eighth; ninth; tenth;
eleventh; twelfth""")
SEASONS = words("spring; summer; autumn; winter")
MONTH_SEASONS = pairs("""
December: winter; January: winter; February: winter; March: spring; April: spring; May: spring;
June: summer; July: summer; August: summer; September: autumn; October: autumn;
November: autumn""")
MONTH_DAYS = pairs("""
January: 31; March: 31; April: 30; May: 31; June: 30; July: 31; August: 31; September: 30;
October: 31; November: 30; December: 31""")
PLANETS = words("Mercury; Venus; Earth; Mars; Jupiter; Saturn; Uranus; Neptune")

COLOURS_OF = pairs("""
grass: green; a ripe banana: yellow; fresh snow: white; coal: black; a ripe tomato: red;
a carrot: orange; a clear sky: blue; a polar bear: white; a crow: black; a flamingo: pink;
a frog: green; milk: white; blood: red; a ripe lemon: yellow; a pumpkin: orange;
the yolk of an egg: yellow; dark chocolate: brown; an elephant: grey; a ripe strawberry: red;
a fire engine: red; an emerald: green; a ruby: red; a sapphire: blue; a stop sign: red;
spinach: green; a panther: black; a swan: white; a raven: black; a cucumber: green; salt: white;
a ripe cherry: red; a leaf in summer: green; a stormy cloud: grey; a mouse: grey;
wet earth: brown; the bark of an oak: brown; a chestnut: brown; a canary: yellow; rice: white;
a sunflower: yellow; lavender: purple; an aubergine: purple; a ripe plum: purple; flour: white;
soot: black; tar: black; a ladybird: red; a pea: green; broccoli: green; a ripe blueberry: blue;
a bluebell: blue; corn: yellow; a daffodil: yellow; a basketball: orange; a piglet: pink;
cotton wool: white; a pine needle: green; a lobster after cooking: red; a clown's nose: red
""")

YOUNG = pairs("""
dog: puppy; cat: kitten; cow: calf; sheep: lamb; horse: foal; hen: chick; duck: duckling;
goose: gosling; pig: piglet; goat: kid; lion: cub; deer: fawn; frog: tadpole; swan: cygnet;
owl: owlet; eagle: eaglet; kangaroo: joey; hare: leveret; butterfly: caterpillar; eel: elver;
fish: fry; seal: pup; turkey: poult; spider: spiderling; salmon: smolt""")
SOUNDS = pairs("""
dog: woof; cat: meow; cow: moo; sheep: baa; horse: neigh; hen: cluck; duck: quack; goose: honk;
pig: oink; owl: hoot; lion: roar; frog: croak; snake: hiss; bee: buzz; crow: caw; wolf: howl;
mouse: squeak; rooster: cock-a-doodle-doo; turkey: gobble; pigeon: coo; donkey: hee-haw;
sparrow: tweet; elephant: trumpet; cricket: chirp""")
HOMES = pairs("""
bee: hive; bird: nest; dog: kennel; horse: stable; pig: sty; spider: web; rabbit: burrow;
fox: den; lion: lair; hen: coop; cow: barn; badger: sett; squirrel: drey; beaver: lodge;
ant: nest in the ground; snail: shell; bear: cave; goldfish: bowl; dove: cote; sheep: fold""")
LEGS = pairs("""
dog: four; cat: four; spider: eight; ant: six; bee: six; hen: two; fly: six; horse: four;
duck: two; beetle: six; cow: four; scorpion: eight; butterfly: six; lion: four; sparrow: two;
crab: ten; snake: no; worm: no; mouse: four; ostrich: two; goat: four; tick: eight""")

PLURALS = pairs("""
cat: cats; dog: dogs; tree: trees; book: books; car: cars; house: houses; box: boxes; fox: foxes;
bus: buses; dish: dishes; watch: watches; peach: peaches; church: churches; glass: glasses;
baby: babies; city: cities; lady: ladies; story: stories; berry: berries; party: parties;
leaf: leaves; knife: knives; wolf: wolves; half: halves; shelf: shelves; loaf: loaves;
wife: wives; life: lives; thief: thieves; calf: calves; man: men; woman: women; child: children;
foot: feet; tooth: teeth; goose: geese; mouse: mice; ox: oxen; person: people; louse: lice;
sheep: sheep; deer: deer; fish: fish; potato: potatoes; tomato: tomatoes; hero: heroes;
piano: pianos; photo: photos; boy: boys; key: keys; toy: toys; day: days; apple: apples;
pear: pears; ball: balls; kite: kites; boat: boats; cup: cups; star: stars; flower: flowers;
bird: birds; shoe: shoes; chair: chairs; table: tables; garden: gardens; river: rivers;
brush: brushes; bench: benches; family: families; country: countries; cactus: cacti;
fungus: fungi; crisis: crises; basis: bases; roof: roofs; monkey: monkeys; lamp: lamps;
brick: bricks; spoon: spoons; horse: horses; rose: roses; bridge: bridges; match: matches;
fly: flies; puppy: puppies; penny: pennies; scarf: scarves; echo: echoes; bee: bees; egg: eggs
""")

PAST = pairs("""
go: went; see: saw; eat: ate; drink: drank; run: ran; swim: swam; sing: sang; ring: rang;
give: gave; take: took; make: made; come: came; write: wrote; ride: rode; drive: drove;
speak: spoke; break: broke; choose: chose; wake: woke; fly: flew; grow: grew; know: knew;
throw: threw; draw: drew; blow: blew; think: thought; buy: bought; bring: brought;
catch: caught; teach: taught; fight: fought; seek: sought; sleep: slept; keep: kept; feel: felt;
leave: left; meet: met; send: sent; spend: spent; build: built; lend: lent; lose: lost;
find: found; hold: held; tell: told; sell: sold; say: said; pay: paid; hear: heard; stand: stood;
understand: understood; sit: sat; begin: began; win: won; dig: dug; stick: stuck; hang: hung;
fall: fell; forget: forgot; get: got; hide: hid; bite: bit; shake: shook; wear: wore;
tear: tore; steal: stole; freeze: froze; rise: rose; shine: shone; cut: cut; put: put; hit: hit;
walk: walked; talk: talked; jump: jumped; play: played; work: worked; look: looked; help: helped;
call: called; ask: asked; open: opened; close: closed; dance: danced; laugh: laughed; cry: cried;
try: tried; carry: carried; stop: stopped; plan: planned; wash: washed; cook: cooked;
paint: painted; climb: climbed; wait: waited; want: wanted; start: started; hurry: hurried
""")

DEGREES = words("""
big bigger biggest; small smaller smallest; tall taller tallest; short shorter shortest;
fast faster fastest; slow slower slowest; hot hotter hottest; cold colder coldest;
old older oldest; young younger youngest; long longer longest; high higher highest;
low lower lowest; good better best; bad worse worst; far further furthest; happy happier happiest;
easy easier easiest; heavy heavier heaviest; light lighter lightest; strong stronger strongest;
weak weaker weakest; rich richer richest; poor poorer poorest; kind kinder kindest;
brave braver bravest; wise wiser wisest; large larger largest; thin thinner thinnest;
thick thicker thickest; wet wetter wettest; dry drier driest; soft softer softest;
hard harder hardest; loud louder loudest; busy busier busiest; early earlier earliest;
late later latest; sweet sweeter sweetest; dark darker darkest""")

CATEGORIES = pairs("""
carrot: vegetable; potato: vegetable; cabbage: vegetable; leek: vegetable; turnip: vegetable;
pear: fruit; banana: fruit; peach: fruit; lemon: fruit; cherry: fruit; plum: fruit; mango: fruit;
hammer: tool; saw: tool; drill: tool; spanner: tool; chisel: tool; spade: tool; rake: tool;
violin: musical instrument; flute: musical instrument; piano: musical instrument;
trumpet: musical instrument; drum: musical instrument; harp: musical instrument;
rose: flower; tulip: flower; daisy: flower; lily: flower; poppy: flower; daffodil: flower;
birch: tree; willow: tree; pine: tree; maple: tree; beech: tree; larch: tree;
salmon: fish; trout: fish; herring: fish; cod: fish; carp: fish; shark: fish;
sparrow: bird; robin: bird; falcon: bird; penguin: bird; parrot: bird; gull: bird;
beetle: insect; wasp: insect; moth: insect; grasshopper: insect; mosquito: insect;
lorry: vehicle; tractor: vehicle; bicycle: vehicle; bus: vehicle; tram: vehicle;
chair: piece of furniture; table: piece of furniture; sofa: piece of furniture;
wardrobe: piece of furniture; desk: piece of furniture; shirt: piece of clothing;
jacket: piece of clothing; sock: piece of clothing; scarf: piece of clothing;
cobra: snake; python: snake; viper: snake; diamond: gemstone; ruby: gemstone; sapphire: gemstone
""")

JOBS = pairs("""
bakes bread: baker; flies a plane: pilot; teaches children: teacher; grows crops: farmer;
catches fish: fisherman; puts out fires: firefighter; cuts hair: hairdresser; paints pictures:
painter; writes books: author; mends pipes: plumber; makes clothes: tailor; sells meat: butcher;
looks after teeth: dentist; looks after sick animals: vet; builds with wood: carpenter;
drives a lorry: lorry driver; plays the piano: pianist; plays the violin: violinist;
sings on stage: singer; dances on stage: dancer; takes photographs: photographer; designs buildings:
architect; studies the stars: astronomer; travels into space: astronaut; sells flowers:
florist; brings letters: postman; works in a library: librarian; cooks in a restaurant: chef;
digs for coal: miner; keeps bees: beekeeper; acts in a play: actor; lays bricks: bricklayer;
sails a ship: sailor; judges in a court: judge; works with iron: blacksmith; tells jokes: comedian;
does magic tricks: magician; repairs cars: mechanic; writes poems: poet; makes pots: potter;
serves food: waiter; looks after sheep: shepherd; mends shoes: cobbler; conducts an orchestra:
conductor""")

PURPOSES = pairs("""
cut paper: scissors; write on paper: a pen; hit a nail: a hammer; open a lock: a key;
dig a hole: a spade; sweep the floor: a broom; tell the time: a clock; see far away: a telescope;
see tiny things: a microscope; measure length: a ruler; measure heat: a thermometer;
sew a button: a needle; boil water: a kettle; bake a cake: an oven; keep food cold: a fridge;
stay dry in the rain: an umbrella; brush our teeth: a toothbrush; comb our hair: a comb;
eat soup: a spoon; find north: a compass; light a dark room: a lamp; catch fish: a net;
wash our hands: soap; dry our hands: a towel; rub out a pencil line: an eraser; mow grass: a mower;
wake up on time: an alarm clock; weigh flour: a scale; paint a wall: a brush;
climb a wall: a ladder;
carry books to school: a bag; cross a river: a bridge; sleep at night: a bed; dry wet hair: a dryer;
hold papers together: a clip; cut bread: a knife; tighten a screw: a screwdriver; saw a plank: a saw
""")

SENSES = pairs("""
see: eyes; hear: ears; smell: nose; taste: tongue; chew: teeth; think: brain; breathe: lungs;
walk: feet; wave: hands; pump blood: heart; touch: fingers; kneel: knees; smile: mouth""")

SHAPES = pairs("""
triangle: three; square: four; rectangle: four; pentagon: five; hexagon: six; heptagon: seven;
octagon: eight; nonagon: nine; decagon: ten""")

SYMBOLS = pairs("""
hydrogen: H; helium: He; lithium: Li; carbon: C; nitrogen: N; oxygen: O; fluorine: F; neon: Ne;
sodium: Na; magnesium: Mg; aluminium: Al; silicon: Si; phosphorus: P; sulfur: S; chlorine: Cl;
argon: Ar; potassium: K; calcium: Ca; titanium: Ti; chromium: Cr; manganese: Mn; iron: Fe;
cobalt: Co; nickel: Ni; copper: Cu; zinc: Zn; silver: Ag; tin: Sn; iodine: I; gold: Au;
mercury: Hg; lead: Pb; platinum: Pt; uranium: U; radium: Ra; barium: Ba; tungsten: W""")

FAMILY = pairs("""
mother's mother: grandmother; mother's father: grandfather; father's mother: grandmother;
father's father: grandfather; mother's sister: aunt; father's sister: aunt; mother's brother: uncle;
father's brother: uncle; aunt's child: cousin; uncle's child: cousin; sister's daughter: niece;
sister's son: nephew; brother's daughter: niece; brother's son: nephew; son's son: grandson;
son's daughter: granddaughter; daughter's son: grandson; daughter's daughter: granddaughter;
wife's mother: mother-in-law; husband's father: father-in-law""")

SPELLED = words("""
cat; dog; sun; moon; star; tree; book; fish; bird; milk; bread; apple; house; river; stone; cloud;
grass; horse; sheep; mouse; chair; table; spoon; knife; plate; water; light; night; green; brown;
black; white; happy; small; round; sweet; hand; foot; nose; door; wall; roof; road; ship; boat;
king; queen; frog; duck; goat; bear; wolf; lion; snow; rain; wind; leaf; rose; seed; corn; cake;
soup; salt; rice; lamp; clock; piano; drum; song; story""")
